/** Privacy: what is held about oneself, to see and to take away; a say in what it is used for; and the end of it. */
import { ask, Refused } from '../ask.js'
import { badge, button, card, day, field, form, h, table } from '../dom.js'

/** @import { Context, Page } from '../pages.js' */
/** @typedef {{ exportedAt: string, about: Record<string, { basis?: string, retentionDays?: number }> } & Record<string, unknown>} Held */
/** @typedef {{ purpose: string, description: string, version: string, given: boolean, open: boolean, decided: { version: string, given: boolean, at: string } | null }} Consent */

/** @type {Page} */
export default {
  async show (outlet, context) {
    outlet.append(held(), await consents(context), erasure(context))
  },
}

/** What is held, and all of it as a file. */
function held () {
  const place = h('div')
  return card('What the portal holds about you', h('p', {}, 'All of it, why it is held, and for how long.'),
    h('div', { class: 'toolbar' },
      button('Show what is held', async () => {
        const { exportedAt, about, ...sources } = await everything()
        place.replaceChildren(table(`As of ${day(exportedAt)}`, [
          { title: 'What', cell: ([name]) => wordsOf(name) },
          { title: 'How many', class: 'number', cell: ([, content]) => countOf(content) },
          { title: 'Why', cell: ([name]) => about[name]?.basis ?? '–' },
          { title: 'How long', cell: ([name]) => about[name]?.retentionDays === undefined ? 'until you end it' : `${about[name].retentionDays} days` },
        ], Object.entries(sources)))
      }),
      button('Download it', async () => save(JSON.stringify(await everything(), null, 2), 'export.json'))),
    place)
}

/** @returns {Promise<Held>} */
const everything = () => ask('GET', '/users/me/export')

/** @param {string} text @param {string} name */
function save (text, name) {
  const url = URL.createObjectURL(new Blob([text], { type: 'application/json' }))
  h('a', { href: url, download: name }).click()
  // Once the browser has begun with it.
  setTimeout(() => { URL.revokeObjectURL(url) }, 60_000)
}

/** @param {unknown} content */
function countOf (content) {
  if (Array.isArray(content)) return content.length
  return content === null || content === false ? 0 : 1
}

/** A source as people call it. @param {string} name */
function wordsOf (name) {
  const known = /** @type {Record<string, string>} */ ({ apiKeys: 'API keys', hasSecondFactor: 'Second factor', audit: 'What you did' })[name]
  return known ?? name.charAt(0).toUpperCase() + name.slice(1)
}

/** What one's data may be used for. @param {Context} context */
async function consents ({ signal, tell }) {
  const { items } = /** @type {{ items: Consent[] }} */ (await ask('GET', '/users/me/consents', undefined, { signal }))
  const rows = items.map(consent => {
    const row = h('li')
    draw(consent)
    return row

    /** @param {Consent} consent */
    function draw ({ purpose, description, version, given, open, decided }) {
      const state = open ? badge('Not decided', 'warn') : badge(given ? 'Agreed' : 'Not agreed', given ? 'good' : 'plain')
      const decide = (/** @type {boolean} */ isGiven) => async () => {
        draw(await ask('PUT', `/users/me/consents/${encodeURIComponent(purpose)}`, { version, given: isGiven }))
        tell(isGiven ? 'Noted: you agree.' : 'Noted: you do not agree.')
        for (const pressed of row.querySelectorAll('button')) if (pressed.ariaPressed === 'true') pressed.focus()
      }
      const since = decided !== null && ` since ${day(decided.at)}`
      row.replaceChildren(h('div', {}, h('span', {}, description === '' ? purpose : description), h('span', { class: 'quiet' }, state, since)),
        h('div', { class: 'toolbar' },
          button('Agree', decide(true), { 'aria-pressed': String(!open && given), 'aria-label': `Agree: ${purpose}` }),
          button('Do not agree', decide(false), { 'aria-pressed': String(!open && !given), 'aria-label': `Do not agree: ${purpose}` })))
    }
  })
  return card('What you agree to', h('p', {}, 'You may change your mind at any time.'), h('ul', { class: 'list' }, rows))
}

/** The end of the account. @param {Context} context */
function erasure ({ caller, leave }) {
  const name = caller.user?.username ?? ''
  return card('Delete your account', h('p', {}, 'Your posts, comments, documents, files and keys go at once and for good. What a law wants kept, such as orders, stays without your name.'),
    form({}, async ({ typed = '' }) => {
      if (typed !== name) throw new Refused({ detail: 'This is not your name: nothing was deleted' })
      await ask('DELETE', '/users/me')
      window.history.replaceState(null, '', '/')
      leave('Your account is deleted.')
    },
    field(`Type your name, ${name}, to confirm`, { name: 'typed', required: true, autocomplete: 'off', autocapitalize: 'none', spellcheck: 'false' }),
    h('button', { class: 'danger' }, 'Delete my account')))
}
