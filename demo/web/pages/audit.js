/** The audit trail, as it happens: events, the newest first, and whether the chain of them is whole. */
import { ask, Refused } from '../ask.js'
import { badge, button, card, facts, field, form, h, run, said } from '../dom.js'

/** @import { Page } from '../pages.js' */
/**
 * @typedef {object} AuditEvent
 * @property {number} seq
 * @property {string} time
 * @property {string} type
 * @property {'success' | 'failure' | 'unknown'} outcome
 * @property {string | null} person
 * @property {string | null} userId
 * @property {string | null} subjectId
 * @property {string | null} vocabulary
 * @property {string} [address]
 * @property {string} [method]
 * @property {string} [route]
 * @property {number} [status]
 */
/** @typedef {{ type: string, userId: string, outcome: string, from: string, to: string }} Filter */
/** @typedef {{ whole: boolean, events: number, purged: number, seq: number, break: { seq: number, kind: string, reason: string } | null }} Verdict */

const PAGE = 50
/** Rows that the page holds. */
const MOST = 200
/** Milliseconds in which events come together, and in which new ones are told once. */
const GATHER_MS = 100
const TOLD_MS = 5000
/** Milliseconds before a stream is asked for again that was refused for the moment. */
const AGAIN_MS = 5000
const OUTCOMES = /** @type {const} */ ({ success: 'good', failure: 'bad', unknown: 'plain' })
const BREAKS = /** @type {Record<string, string>} */ ({
  changed: 'was changed', removed: 'was removed', inserted: 'was put in', reordered: 'is in another place', truncated: 'and all after it were cut off',
})
const time = new Intl.DateTimeFormat(undefined, { dateStyle: 'short', timeStyle: 'medium' })

/** @type {Page} */
export default {
  async show (outlet, { caller, signal, tell }) {
    /** @type {Filter} */
    let filter = { type: '', userId: '', outcome: '', from: '', to: '' }
    /** The newest place that is known, and that of the oldest row. */
    let newest = 0
    let oldest = 0
    /** @type {number | null} */
    let broken = null
    /** @type {EventSource | null} */
    let source = null
    /** @type {AuditEvent[]} */
    let waiting = []
    /** New rows that nobody was told of. */
    let untold = 0
    let gathering = 0
    let telling = 0
    let retrying = 0
    /** Whatever is loaded last counts. */
    let loads = 0
    /** Names of users, by their ids. @type {Map<string, Promise<string>>} */
    const names = new Map()
    /** @type {Set<string>} */
    const types = new Set()

    const state = h('span', { role: 'status' })
    const pauser = button('Pause', () => source === null && retrying === 0 ? begin() : pause('paused'))
    const news = h('p', { class: 'visually-hidden', role: 'status' })
    const body = h('tbody')
    const none = h('p', { class: 'quiet', hidden: true }, 'No event is like that.')
    const older = button('Older events', addOlder)
    const known = h('datalist', { id: 'event-types' })
    const chain = h('div', { role: 'status' })
    const trail = h('div', { class: 'scroll tall', role: 'region', tabindex: '0', 'aria-label': 'Events' },
      h('table', { class: 'trail' },
        h('thead', {}, h('tr', {}, ['Event', 'Time', 'Who', 'Where', 'From'].map(title => h('th', { scope: 'col' }, title)))), body))

    const asked = form({ role: 'search', 'aria-label': 'Events' }, apply,
      h('div', { class: 'toolbar top' },
        field('Type', { name: 'type', list: 'event-types', autocomplete: 'off', spellcheck: 'false', maxlength: '64', pattern: '[a-z][a-z0-9_]*', title: 'Small letters, digits and underscores' }),
        field('User', { name: 'user', autocomplete: 'off', autocapitalize: 'none', spellcheck: 'false', maxlength: '64', hint: 'Name or id' }),
        field('Outcome', { as: 'select', name: 'outcome', options: [['', 'any'], ['success', 'success'], ['failure', 'failure'], ['unknown', 'unknown']] }),
        field('From', { type: 'datetime-local', name: 'from' }),
        field('To', { type: 'datetime-local', name: 'to' })),
      h('div', { class: 'toolbar' }, h('button', { class: 'first' }, 'Filter'), button('Clear', () => {
        asked.reset()
        return apply()
      })), known)

    const verifier = card('The chain', h('p', { class: 'quiet' }, 'Every event is sealed to the one before it. Who changes, removes or adds one in the database breaks the chain, and it shows where.'),
      chain, button('Verify', verify))
    const events = card('Events', asked, h('div', { class: 'toolbar' }, state, pauser), news, trail, none, h('div', { class: 'toolbar' }, older))
    outlet.append(verifier, events)
    run(verifier, verify)
    await begin()

    return () => {
      source?.close()
      for (const timer of [gathering, telling, retrying]) window.clearTimeout(timer)
    }

    // What is shown

    /** From the newest event on, and then whatever happens. */
    async function begin () {
      disconnect()
      const load = ++loads
      const { items } = await page()
      if (load !== loads) return
      body.replaceChildren()
      oldest = 0
      // What happened since is in the stream: it begins after the newest event of all, whatever is asked for.
      newest = /** @type {AuditEvent | undefined} */ (isFiltered() ? (await ask('GET', '/audit?limit=1', undefined, { signal })).items[0] : items[0])?.seq ?? 0
      if (load !== loads) return
      append(items)
      connect()
    }

    /** @param {number} [before] @param {number} [limit] @returns {Promise<{ items: AuditEvent[], nextCursor: string | null }>} */
    async function page (before, limit = PAGE) {
      const query = new URLSearchParams({ limit: String(limit), ...before !== undefined && { cursor: String(before) } })
      for (const [name, value] of Object.entries(filter)) if (value !== '') query.set(name, value)
      const found = await ask('GET', `/audit?${query}`, undefined, { signal })
      older.hidden = found.nextCursor === null
      return found
    }

    async function apply () {
      const values = /** @type {Record<string, string>} */ (Object.fromEntries(new FormData(asked)))
      const instant = (/** @type {string | undefined} */ text) => text ? new Date(text).toISOString() : ''
      filter = { type: values.type ?? '', outcome: values.outcome ?? '', userId: await idOf(values.user?.trim() ?? ''), from: instant(values.from), to: instant(values.to) }
      await begin()
      tell(`${body.querySelectorAll('tr.event').length} events shown.`)
    }

    async function addOlder () {
      pause('paused while older events are read')
      const load = ++loads
      const { items } = await page(oldest)
      if (load === loads) append(items)
    }

    /** @param {readonly AuditEvent[]} items older than all that are shown */
    function append (items) {
      for (const event of items) body.append(...rowOf(event))
      trim('first')
      mark()
    }

    /** @param {readonly AuditEvent[]} events newer than all that are shown, the oldest first */
    function prepend (events) {
      for (const event of events) body.prepend(...rowOf(event))
      trim('last')
      mark()
    }

    /** @param {'first' | 'last'} end where rows go that are too many */
    function trim (end) {
      const rows = () => body.querySelectorAll('tr.event')
      for (let left = rows().length - MOST; left > 0; left--) {
        const row = end === 'first' ? body.firstElementChild : [...rows()].at(-1)
        // The keyboard does not go with it.
        if (row?.contains(document.activeElement)) events.querySelector('h2')?.focus()
        if (row?.nextElementSibling?.classList.contains('more')) row.nextElementSibling.remove()
        row?.remove()
      }
      if (end === 'last' && rows().length === MOST) older.hidden = false
    }

    function mark () {
      const rows = /** @type {HTMLElement[]} */ ([...body.querySelectorAll('tr.event')])
      oldest = Number(rows.at(-1)?.dataset.seq ?? 0)
      for (const row of rows) row.classList.toggle('broken', Number(row.dataset.seq) === broken)
      none.hidden = rows.length > 0
      trail.hidden = rows.length === 0
    }

    /** @param {AuditEvent} event */
    function rowOf (event) {
      const { seq, type, outcome, userId, person, method, route, status, address } = event
      know(type)
      const opener = h('button', { type: 'button', class: 'link', 'aria-expanded': 'false', onclick: toggle }, type)
      const who = h('span', {}, userId ?? person ?? '')
      if (userId !== null) nameOf(userId).then(name => { who.textContent = name })
      const row = h('tr', { class: 'event', 'data-seq': seq },
        h('th', { scope: 'row' }, opener, ' ', badge(outcome, OUTCOMES[outcome])),
        h('td', {}, h('time', { datetime: event.time }, time.format(new Date(event.time)))),
        h('td', {}, who),
        h('td', {}, [method, route, status].filter(part => part !== undefined).join(' ')),
        h('td', {}, address ?? ''))
      return [row]

      function toggle () {
        const isOpen = opener.ariaExpanded === 'true'
        opener.ariaExpanded = String(!isOpen)
        if (isOpen) row.nextElementSibling?.remove()
        else row.after(h('tr', { class: 'more' }, h('td', { colspan: 5 }, facts(factsOf(event)))))
      }
    }

    /** @param {string} type */
    function know (type) {
      if (types.has(type)) return
      types.add(type)
      known.replaceChildren(...[...types].sort().map(name => h('option', { value: name })))
    }

    /** @param {string} id */
    function nameOf (id) {
      const name = names.get(id) ?? ask('GET', `/users/${encodeURIComponent(id)}`, undefined, { signal }).then(({ username }) => username, () => id)
      names.set(id, name)
      return name
    }

    /** Of somebody who is named, or whose id it is. @param {string} text */
    async function idOf (text) {
      if (text === '') return ''
      const { items } = await ask('GET', `/users?username=${encodeURIComponent(text.slice(0, 50))}`, undefined, { signal })
      return items[0]?.id ?? text
    }

    // What happens meanwhile

    function connect () {
      disconnect()
      source = new EventSource(`/audit/stream?${new URLSearchParams({ named: 'false', after: String(newest), expectedUser: caller.user?.id ?? '' })}`)
      say('connecting …', 'plain')
      pauser.textContent = 'Pause'
      const mine = source
      mine.onopen = () => say('live', 'good')
      mine.onmessage = ({ data }) => receive(JSON.parse(data))
      mine.onerror = () => {
        if (mine !== source) return
        say('connecting again …', 'warn')
        // The browser asks again by itself, unless the portal has refused.
        if (mine.readyState === EventSource.CLOSED) again()
      }
    }

    /** Refused: for good, or for the moment. Where nobody is signed in any more the shell sees to it. */
    async function again () {
      disconnect()
      try {
        await ask('GET', '/audit?limit=1', undefined, { signal })
      } catch (error) {
        if (signal.aborted) return
        if (error instanceof Refused && error.status === 403) {
          pause('ended')
          say(said(error), 'bad')
          return
        }
      }
      retrying = window.setTimeout(() => {
        retrying = 0
        connect()
      }, AGAIN_MS)
    }

    function disconnect () {
      source?.close()
      source = null
      window.clearTimeout(retrying)
      retrying = 0
      waiting = []
    }

    /** @param {string} why */
    function pause (why) {
      if (source === null && retrying === 0) return
      disconnect()
      say(why, 'warn')
      pauser.textContent = 'Resume'
    }

    /** @param {AuditEvent} event */
    function receive (event) {
      if (event.seq <= newest) return
      newest = event.seq
      know(event.type)
      if (!isAskedFor(event)) return
      waiting.push(event)
      if (gathering !== 0) return
      gathering = window.setTimeout(() => {
        gathering = 0
        untold += waiting.length
        prepend(waiting)
        waiting = []
        announce()
      }, GATHER_MS)
    }

    /** How many are new, now and then: who listens is not to hear each of them. */
    function announce () {
      if (telling !== 0 || untold === 0) return
      telling = window.setTimeout(() => {
        telling = 0
        news.textContent = untold === 1 ? 'One new event.' : `${untold} new events.`
        untold = 0
      }, TOLD_MS)
    }

    /** @param {AuditEvent} event */
    function isAskedFor ({ type, outcome, userId, subjectId, time }) {
      return (filter.type === '' || type === filter.type) && (filter.outcome === '' || outcome === filter.outcome) &&
        (filter.userId === '' || [userId, subjectId].includes(filter.userId)) && (filter.from === '' || time >= filter.from) && (filter.to === '' || time < filter.to)
    }

    function isFiltered () {
      return Object.values(filter).some(value => value !== '')
    }

    /** @param {string} text @param {'good' | 'bad' | 'warn' | 'plain'} kind */
    function say (text, kind) {
      if (state.textContent !== text) state.replaceChildren(badge(text, kind))
    }

    // The chain

    async function verify () {
      /** @type {Verdict} */
      const { whole, events, purged, seq, break: found } = await ask('GET', '/audit/verify', undefined, { signal })
      broken = found?.seq ?? null
      const emptied = purged === 0 ? '' : `, ${purged} of them emptied when their time was over`
      chain.replaceChildren(whole || found === null
        ? h('p', { class: 'note good' }, h('strong', {}, 'The chain is whole.'), ` ${events} events${emptied}; the last is event ${seq}.`)
        : h('div', { class: 'note bad' }, h('p', {}, h('strong', {}, `The chain is broken at event ${found.seq}, which ${BREAKS[found.kind] ?? found.kind}.`), ` ${events} events before it are whole. What was found: ${found.reason}.`),
          button('Show that place', () => showPlace(found.seq))))
      mark()
    }

    /** @param {number} seq */
    async function showPlace (seq) {
      pause('paused at the break')
      asked.reset()
      filter = { type: '', userId: '', outcome: '', from: '', to: '' }
      const load = ++loads
      // Some of what came after it, too.
      const { items } = await page(seq + 5)
      if (load !== loads) return
      body.replaceChildren()
      append(items)
      ;(body.querySelector('tr.broken button') ?? body.querySelector('button'))?.scrollIntoView({ block: 'center' })
      const place = /** @type {HTMLElement | null} */ (body.querySelector('tr.broken button') ?? body.querySelector('button'))
      place?.focus()
    }
  },
}

/** All that is known of it, but for what stands in its row. @param {AuditEvent} event */
function factsOf ({ type, outcome, ...rest }) {
  return Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== null)
    .map(([name, value]) => [name, typeof value === 'object' ? h('code', { class: 'lines' }, JSON.stringify(value, null, 2)) : String(value)]))
}
