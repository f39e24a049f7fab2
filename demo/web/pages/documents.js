/** Documents: one's own and those that others share; read, write, share by name, take back. `#documents`, `#documents/<id>`. */
import { ask } from '../ask.js'
import { button, card, choice, field, form, h, item, list, told } from '../dom.js'
import { sure } from '../sure.js'

/** @import { Context } from '../pages.js' */
/** @typedef {'read' | 'write'} Action */
/** @typedef {{ id: string, ownerId: string, ownerName: string, title: string, updatedAt: string, actions: Action[] }} Entry */
/** @typedef {{ userId: string, username: string, actions: Action[] }} Share */

/** Requests by which the list is read at most: a hundred of them each, and one person owns no more than that. */
const MOST_PAGES = 10

/** @param {HTMLElement} outlet @param {Context} context */
async function show (outlet, context) {
  const [id] = context.path
  const { entries, isWhole } = await all(context.signal, id)
  if (id === undefined) return showAll(outlet, context, entries, isWhole)
  const entry = entries.find(entry => entry.id === id)
  // What is none of theirs the portal itself refuses, in its own words.
  if (entry === undefined) await ask('GET', `/documents/${encodeURIComponent(id)}`, undefined, { signal: context.signal })
  else await showOne(outlet, context, entry)
}

/** As many as the page can hold, or until the one that is looked for. @param {AbortSignal} signal @param {string} [id] @returns {Promise<{ entries: Entry[], isWhole: boolean }>} */
async function all (signal, id) {
  /** @type {Entry[]} */
  const entries = []
  /** @type {string | null} */
  let cursor = ''
  for (let left = MOST_PAGES; left > 0 && cursor !== null && !entries.some(entry => entry.id === id); left--) {
    const { items, nextCursor } = await ask('GET', `/documents?limit=100${cursor === '' ? '' : `&cursor=${encodeURIComponent(cursor)}`}`, undefined, { signal })
    entries.push(...items)
    cursor = nextCursor
  }
  return { entries: entries.sort((a, b) => b.updatedAt.localeCompare(a.updatedAt)), isWhole: cursor === null }
}

/** @param {HTMLElement} outlet @param {Context} context @param {Entry[]} entries @param {boolean} isWhole */
function showAll (outlet, { caller, tell, go }, entries, isWhole) {
  const isOwn = (/** @type {Entry} */ { ownerId }) => ownerId === caller.user?.id
  const shown = (/** @type {Entry} */ { id, title, updatedAt, ownerName, actions }, /** @type {boolean} */ tellsOwner) =>
    item(h('a', { href: `#documents/${id}` }, h('bdi', {}, title)), [tellsOwner && `${ownerName}, ${rights(actions)} · `, `changed ${told(updatedAt)}`])
  outlet.append(
    card('Yours', list(entries.filter(isOwn).map(entry => shown(entry, false)), 'There are none yet.')),
    card('Shared with you', list(entries.filter(entry => !isOwn(entry)).map(entry => shown(entry, true)), 'Nobody shares one with you.')))
  if (!isWhole) outlet.append(h('p', { class: 'quiet' }, `There are more than these ${entries.length}: they are not shown here.`))
  if (caller.permissions.includes('documents:write')) {
    outlet.append(card('New', form({}, async values => {
      const { id } = await ask('POST', '/documents', values)
      go(`documents/${id}`)
      tell('Your document is there.')
    }, ...fields({ title: '', content: '' }), h('button', { class: 'first' }, 'Create'))))
  }
}

/** @param {HTMLElement} outlet @param {Context} context @param {Entry} entry */
async function showOne (outlet, { caller, signal, tell, go }, { id, ownerId, ownerName, title, actions }) {
  const isOwn = ownerId === caller.user?.id
  const mayRead = actions.includes('read')
  const { content } = mayRead ? await ask('GET', `/documents/${id}`, undefined, { signal }) : { content: '' }
  const heading = h('bdi', {}, title)
  const back = h('p', {}, h('a', { href: '#documents' }, 'All documents'))
  const whose = !isOwn && h('p', { class: 'quiet' }, `Of ${ownerName}, ${rights(actions)}.`)
  const unread = h('p', {}, 'You may write to it, but not read it: what is saved takes the place of all that is in it. This page shows no form for what it cannot show.')
  const area = card('', whose, !mayRead
    ? unread
    : actions.includes('write')
      ? form({}, async values => {
        const changed = await ask('PUT', `/documents/${id}`, values)
        heading.textContent = changed.title
        tell('The document is saved.')
      }, ...fields({ title, content }), h('button', { class: 'first' }, 'Save'))
      : h('p', { class: 'lines', dir: 'auto' }, content))
  area.querySelector('h2')?.append(heading)
  outlet.append(back, area)
  if (!isOwn) return
  outlet.append(await shares(id, signal, tell), card('The end of it', h('p', {}, 'It goes for everybody it is shared with, too.'), sure('Delete', 'Delete this document?', async () => {
    await ask('DELETE', `/documents/${id}`)
    go('documents')
    tell('The document is deleted.')
  })))
}

/** With whom it is shared. @param {string} id @param {AbortSignal} signal @param {Context['tell']} tell */
async function shares (id, signal, tell) {
  const place = h('div', {})
  const area = card('Shared with', place, form({}, async ({ username = '', read, write }, element) => {
    await ask('POST', `/documents/${id}/shares`, { username, actions: [read !== undefined && 'read', write !== undefined && 'write'].filter(Boolean) })
    element.reset()
    await draw()
    tell(`The document is shared with ${username}.`)
  },
  field('Name', { name: 'username', required: true, minlength: '3', maxlength: '50', pattern: '[A-Za-z0-9_]+', autocomplete: 'off', autocapitalize: 'none', spellcheck: 'false' }),
  h('fieldset', {}, h('legend', {}, 'May'), choice('Read it', { name: 'read', checked: true }), choice('Write to it', { name: 'write' })),
  h('button', {}, 'Share')))
  await draw()
  return area

  async function draw () {
    const { items } = await ask('GET', `/documents/${id}/shares`, undefined, { signal })
    place.replaceChildren(list(items.map((/** @type {Share} */ { userId, username, actions }) => item(username, rights(actions), button('Take back', async () => {
      await ask('DELETE', `/documents/${id}/shares/${userId}`)
      area.querySelector('h2')?.focus()
      await draw()
      tell(`The document is not shared with ${username} any more.`)
    }, { 'aria-label': `Take back from ${username}` }))), 'Nobody but you has it.'))
  }
}

/** @param {{ title: string, content: string }} document */
function fields ({ title, content }) {
  return [
    field('Title', { name: 'title', required: true, maxlength: '200', value: title }),
    field('Text', { as: 'textarea', name: 'content', maxlength: '100000', rows: '12', value: content }),
  ]
}

/** @param {Action[]} actions */
function rights (actions) {
  return actions.length > 1 ? 'to read and write' : actions.includes('write') ? 'to write, unread' : 'to read'
}

export default { show }
