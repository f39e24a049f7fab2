/** Posts: read, write, change, comment; and, for those who may, delete. `#posts`, `#posts/write`, `#posts/<id>`, `#posts/<id>/edit`. */
import { ask, Refused } from '../ask.js'
import { button, card, day, field, form, h, item, told } from '../dom.js'
import { sanitised } from '../sanitised.js'
import { sure } from '../sure.js'

/** @import { Context } from '../pages.js' */
/** @typedef {{ id: string, authorId: string, title: string, content: string, tags: string[], createdAt: string, updatedAt: string }} Post */
/** @typedef {{ id: string, authorId: string, content: string, createdAt: string }} Comment */

const WRITE = 'write'
const EDIT = 'edit'
const HINT = 'HTML, of which paragraphs, line breaks, strong, em, lists and links are kept: <p>, <br>, <strong>, <em>, <ul>, <ol>, <li>, <a href title>.'

/** Whose id is whose name. Only who is signed in is told. @type {Map<string, Promise<string>>} */
const names = new Map()

/** @param {Context['caller']} caller */
const mayWrite = ({ permissions }) => permissions.includes('posts:write')

/** @param {HTMLElement} outlet @param {Context} context */
async function show (outlet, context) {
  const [id, what] = context.path
  if (id === undefined) return showAll(outlet, context)
  if (id === WRITE) return showForm(outlet, context, null)
  const post = await ask('GET', `/posts/${encodeURIComponent(id)}`, undefined, { signal: context.signal })
  return what === EDIT ? showForm(outlet, context, post) : showOne(outlet, context, post)
}

/** @param {HTMLElement} outlet @param {Context} context */
async function showAll (outlet, context) {
  const { caller, signal } = context
  const found = h('ul', { class: 'list' })
  const more = h('div', { class: 'toolbar' })
  const area = card('Newest', found, more)
  await page(null)
  if (mayWrite(caller)) outlet.append(h('p', {}, h('a', { class: 'button', href: `#posts/${WRITE}` }, 'Write a post')))
  outlet.append(area)

  /** @param {string | null} cursor */
  async function page (cursor) {
    const { items, nextCursor } = await ask('GET', `/posts${cursor === null ? '' : `?cursor=${encodeURIComponent(cursor)}`}`, undefined, { signal })
    const entries = await Promise.all(items.map((/** @type {Post} */ post) => entry(post, context)))
    if (cursor === null) found.replaceChildren(...entries.length > 0 ? [] : [h('li', { class: 'quiet' }, 'There are none yet.')])
    found.append(...entries)
    more.replaceChildren(...nextCursor === null ? [] : [button('Show more', () => page(nextCursor))])
    // Where the button was, the first of what it brought.
    if (cursor !== null) entries[0]?.querySelector('a')?.focus()
  }
}

/** @param {Post} post @param {Context} context */
async function entry ({ id, authorId, title, createdAt, tags }, { caller }) {
  return item(h('a', { href: `#posts/${id}` }, h('bdi', {}, title)), joined(await by(caller, authorId), day(createdAt), ...tags.map(tag => `#${tag}`)))
}

/** @param {HTMLElement} outlet @param {Context} context @param {Post} post */
async function showOne (outlet, context, { id, authorId, title, content, tags, createdAt, updatedAt }) {
  const { caller, tell, go } = context
  const isOwn = authorId === caller.user?.id || caller.user?.role === 'admin'
  const about = joined(await by(caller, authorId), told(createdAt), updatedAt === createdAt ? '' : `changed ${told(updatedAt)}`)
  const area = card(title,
    h('p', { class: 'quiet' }, about),
    h('div', { class: 'written' }, sanitised(content)),
    tags.length > 0 && h('p', { class: 'quiet' }, tags.map(tag => `#${tag}`).join(' ')),
    h('div', { class: 'toolbar' },
      isOwn && h('a', { class: 'button', href: `#posts/${id}/${EDIT}` }, 'Edit'),
      caller.permissions.includes('posts:delete') && sure('Delete', 'Delete this post and its comments?', async () => {
        await ask('DELETE', `/posts/${id}`)
        go('posts')
        tell('The post is deleted.')
      })))
  outlet.append(h('p', {}, h('a', { href: '#posts' }, 'All posts')), area, await comments(id, context))
}

/** @param {string} postId @param {Context} context */
async function comments (postId, { caller, signal, tell }) {
  const found = h('ul', { class: 'list' })
  const more = h('div', { class: 'toolbar' })
  const area = card('Comments', found, more, mayWrite(caller) && form({}, async (values, element) => {
    const comment = await ask('POST', `/posts/${postId}/comments`, values)
    element.reset()
    // Where not all of them are shown the newest is not, either.
    if (more.childElementCount === 0) await add([comment])
    tell('Your comment is there.')
  }, field('Your comment', { as: 'textarea', name: 'content', required: true, maxlength: '2000', rows: '3', hint: 'Text: nothing in it is markup.' }), h('button', {}, 'Comment')))
  await page(null)
  return area

  /** @param {string | null} cursor */
  async function page (cursor) {
    const { items, nextCursor } = await ask('GET', `/posts/${postId}/comments${cursor === null ? '' : `?cursor=${encodeURIComponent(cursor)}`}`, undefined, { signal })
    await add(items)
    if (found.childElementCount === 0) found.append(h('li', { class: 'quiet none' }, 'There are none yet.'))
    more.replaceChildren(...nextCursor === null ? [] : [button('Show more', () => page(nextCursor))])
    if (cursor !== null) area.querySelector('h2')?.focus()
  }

  /** @param {Comment[]} items */
  async function add (items) {
    const entries = await Promise.all(items.map(async ({ authorId, content, createdAt }) =>
      h('li', { class: 'comment' }, h('p', { class: 'quiet' }, joined(await by(caller, authorId), told(createdAt))), h('p', { class: 'lines', dir: 'auto' }, content))))
    if (entries.length > 0) found.querySelector('.none')?.remove()
    found.append(...entries)
  }
}

/** @param {HTMLElement} outlet @param {Context} context @param {Post | null} post */
function showForm (outlet, { tell, go }, post) {
  outlet.append(h('p', {}, h('a', { href: post === null ? '#posts' : `#posts/${post.id}` }, 'Back')), card(post === null ? 'New' : 'Change it',
    form({}, async ({ title, content, tags = '' }) => {
      const body = { title, content, tags: tags.split(/[\s,]+/).filter(tag => tag !== '') }
      const { id } = await (post === null ? ask('POST', '/posts', body) : ask('PUT', `/posts/${post.id}`, body))
      go(`posts/${id}`)
      tell(post === null ? 'Your post is there.' : 'Your post is changed.')
    },
    field('Title', { name: 'title', required: true, maxlength: '200', value: post?.title }),
    field('Content', { as: 'textarea', name: 'content', required: true, minlength: '10', maxlength: '10000', rows: '10', hint: HINT, value: editable(post?.content ?? '') }),
    field('Tags', { name: 'tags', value: post?.tags.join(' '), pattern: '[\\sA-Za-z0-9,\\-]*', hint: 'Letters, digits and hyphens, with spaces between them; ten at most.' }),
    h('button', { class: 'first' }, post === null ? 'Publish' : 'Save'))))
}

/** What the portal adds to links when it shows them is not what was written. @param {string} content */
function editable (content) {
  return content.replaceAll(' rel="noopener nofollow"', '')
}

/** @param {...string} parts */
function joined (...parts) {
  return parts.filter(part => part !== '').join(' · ')
}

/** Whose it is, for those who are told. @param {Context['caller']} caller @param {string} id */
function by ({ user }, id) {
  if (user === null) return Promise.resolve('')
  const name = names.get(id) ?? ask('GET', `/users/${encodeURIComponent(id)}`).then(({ username }) => username, error => {
    names.delete(id)
    if (error instanceof Refused) return 'somebody'
    throw error
  })
  names.set(id, name)
  return name
}

export default { show }
