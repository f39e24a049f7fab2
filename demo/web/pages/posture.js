/** What protects each route: a table to search, as the running service says it. */
import { ask } from '../ask.js'
import { badge, card, choice, field, h, table } from '../dom.js'

/** @import { Page } from '../pages.js' */
/** @typedef {{ severity: 'high' | 'medium' | 'low', message: string, fix: string }} Gap */
/** @typedef {{ method: string, url: string, kind: string, group: string, who: string, via: string, limits: string, body: string, answers: string, audit: string, headers: string, gaps: Gap[] }} Row */

const KINDS = /** @type {const} */ ({ high: 'bad', medium: 'warn', low: 'plain' })
const GROUPS = /** @type {const} */ ([
  ['', 'all'], ['anybody', 'anybody'], ['signed in', 'whoever is signed in'], ['own', 'by what is whose'], ['permission', 'by permission'], ['role', 'by role'],
])

/** @type {Page} */
export default {
  async show (outlet, { signal }) {
    /** @type {{ rows: Row[], gaps: Gap[], counts: { label: string, count: number }[] }} */
    const { rows, gaps, counts } = await ask('GET', '/posture/table', undefined, { signal })
    const names = /** @type {const} */ (['who', 'via', 'limits', 'body', 'answers', 'audit', 'headers'])
    const titles = { who: 'Who may', via: 'Via', limits: 'Limits', body: 'Body', answers: 'Answers', audit: 'Audit', headers: 'Headers' }
    const none = h('p', { class: 'quiet', hidden: true }, 'No route is like that.')
    const found = h('p', { class: 'quiet', role: 'status' })
    const area = table('Each route, as it runs', [
      { title: 'Route', class: 'route', cell: (/** @type {Row} */ { method, url, gaps }) => [h('code', {}, method, ' ', h('wbr'), url), gaps.map(drawn)] },
      ...names.map(name => ({ title: titles[name], cell: (/** @type {Row} */ row) => row[name] })),
    ], rows)
    area.classList.add('tall', 'dense')
    const lines = [...area.querySelectorAll('tbody tr')].map((element, i) => {
      const row = /** @type {Row} */ (rows[i])
      return { element: /** @type {HTMLElement} */ (element), row, text: [row.method, row.url, ...names.map(name => row[name]), ...row.gaps.map(({ message }) => message)].join(' ').toLowerCase() }
    })

    const search = field('Search', { type: 'search', name: 'search', autocomplete: 'off', spellcheck: 'false', hint: 'Route, permission, limit, whatever stands in a row.' })
    const who = field('Who may', { as: 'select', name: 'who', options: GROUPS })
    const onlyGaps = choice('Only those with gaps', { name: 'gaps' })
    const twins = choice('HEAD of each GET, too', { name: 'twins' })
    const filter = h('form', { role: 'search', 'aria-label': 'Routes', onsubmit: (/** @type {Event} */ event) => event.preventDefault(), oninput: apply },
      h('div', { class: 'toolbar top' }, search, who), h('div', { class: 'toolbar' }, onlyGaps, twins))

    outlet.append(
      card('At a glance',
        h('ul', { class: 'counts' }, counts.map(({ label, count }) => h('li', { class: label.startsWith('gaps') && count > 0 ? 'has-gaps' : undefined }, h('strong', {}, count), ` ${label}`))),
        gaps.map(drawn),
        h('p', {}, h('a', { href: '/posture?format=html' }, 'The same as one page, to keep or print'))),
      card('Routes', filter, found, none, area))
    apply()

    function apply () {
      const words = (search.querySelector('input')?.value ?? '').toLowerCase().split(/\s+/)
      const group = who.querySelector('select')?.value
      const wants = (/** @type {HTMLElement} */ box) => box.querySelector('input')?.checked === true
      let shown = 0
      for (const { element, row, text } of lines) {
        const isShown = words.every(word => text.includes(word)) && (group === '' || row.group === group) && (!wants(onlyGaps) || row.gaps.length > 0) && (wants(twins) || row.kind !== 'head')
        element.hidden = !isShown
        if (isShown) shown++
      }
      found.textContent = `${shown} of ${lines.length} shown`
      none.hidden = shown > 0
      area.hidden = shown === 0
    }
  },
}

/** @param {Gap} gap */
function drawn ({ severity, message, fix }) {
  return h('p', { class: 'gap' }, badge(severity, KINDS[severity]), ' ', h('strong', {}, `${message}.`), ' ', fix)
}
