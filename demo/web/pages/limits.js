/** A burst of requests against each algorithm of the limits, drawn as it goes. */
import { acting, ask } from '../ask.js'
import { card, facts, field, h, newId, table } from '../dom.js'

/** @import { Page } from '../pages.js' */
/** @typedef {{ second: number, sent: number, allowed: number, refused: number, failed: number, remaining: number | null }} Second */
/** @typedef {{ at: number, status: number, remaining: number | null }} Shot */

const ROUTES = /** @type {const} */ ([
  ['/limits/multi', 'Sliding windows: 5 a second, 100 a minute, 1000 an hour, all at once'],
  ['/limits/plan', 'By plan: sliding windows of a minute and a day'],
  ['/limits/bucket', 'Token bucket: holds 10, gains one a second'],
])
const OK = 200
const LIMITED = 429
/** Requests that wait for an answer at most. */
const IN_FLIGHT = 24
/** Milliseconds between two looks at what is due, and of a bar. */
const TICK = 25
const BAR = 250
const HEIGHT = 260
const EDGE = { left: 40, right: 44, top: 12, bottom: 34 }
const SVG = 'http://www.w3.org/2000/svg'

/** @type {Page} */
export default {
  show (outlet, { signal, tell }) {
    const still = window.matchMedia('(prefers-reduced-motion: reduce)')
    const route = field('Route', { as: 'select', name: 'route', options: ROUTES })
    const rate = field('Requests a second', { type: 'number', name: 'rate', min: '1', max: '60', step: '1', required: true, value: '10' })
    const length = field('Seconds', { type: 'number', name: 'seconds', min: '1', max: '30', step: '1', required: true, value: '6' })
    const start = h('button', { class: 'first' }, 'Start')
    const stop = h('button', { type: 'button', 'aria-disabled': 'true' }, 'Stop')
    const form = h('form', { onsubmit: begin }, route, h('div', { class: 'toolbar' }, rate, length), h('div', { class: 'toolbar' }, start, stop))
    const area = card('A burst', h('p', {}, 'Requests go from this page to a route that does nothing but count. They spend what this address, or your account, may ask of that route, and nothing else.'), form)
    const fault = /** @type {HTMLElement} */ (area.querySelector('[role=alert]'))
    const place = h('div', { class: 'plot' })
    const summary = h('div')
    const numbers = h('div', { id: 'numbers' })
    const result = card('What came of it', h('p', { class: 'legend' },
      h('span', { class: 'key allowed' }), ' allowed ', h('span', { class: 'key refused' }), ' refused ', h('span', { class: 'key left' }), ' left of the budget (right scale)'), place, summary, numbers)
    result.hidden = true
    outlet.append(area, result)

    /** @type {Shot[]} */
    let shots = []
    let seconds = 0
    let policy = ''
    let drawnAt = 0
    let timer = 0
    let burst = new AbortController()
    const resized = new ResizeObserver(() => { if (!result.hidden) draw() })
    resized.observe(place)
    stop.addEventListener('click', () => burst.abort())

    return () => {
      burst.abort()
      resized.disconnect()
      window.clearTimeout(timer)
    }

    /** @param {Event} event */
    async function begin (event) {
      event.preventDefault()
      if (start.ariaDisabled === 'true') return
      const values = new FormData(form)
      seconds = Number(values.get('seconds'))
      shots = []
      policy = ''
      fault.textContent = ''
      burst = new AbortController()
      // Not by `disabled`: that takes the keyboard away from what was pressed.
      start.ariaDisabled = 'true'
      stop.ariaDisabled = 'false'
      result.hidden = false
      numbers.replaceChildren(table('Second by second', ['Second', 'Sent', 'Allowed', 'Refused', 'Left'].map((title, i) => ({ title, class: i === 0 ? undefined : 'number', cell: () => '' })), []))
      numbers.querySelector('tbody')?.replaceChildren()
      tell('The burst goes on.')
      draw()
      try {
        await shoot(String(values.get('route')), Number(values.get('rate')))
      } finally {
        if (!signal.aborted) end()
      }
    }

    function end () {
      start.ariaDisabled = 'false'
      stop.ariaDisabled = 'true'
      window.clearTimeout(timer)
      timer = 0
      draw()
      const { sent, allowed, refused } = total()
      tell(`The burst is over: ${sent} sent, ${allowed} allowed, ${refused} refused.`)
    }

    /** Sends what is due, on time, until the end or the stop. @param {string} url @param {number} perSecond */
    async function shoot (url, perSecond) {
      const began = performance.now()
      const count = perSecond * seconds
      /** @type {Set<Promise<void>>} */
      const open = new Set()
      for (let sent = 0; sent < count && !burst.signal.aborted;) {
        const due = Math.min(count, Math.floor((performance.now() - began) / 1000 * perSecond) + 1)
        for (; sent < due && open.size < IN_FLIGHT; sent++) {
          const one = send(url, began).finally(() => open.delete(one))
          open.add(one)
        }
        await new Promise(resolve => { window.setTimeout(resolve, TICK) })
      }
      await Promise.all(open)
    }

    /** @param {string} url @param {number} began */
    async function send (url, began) {
      const at = performance.now() - began
      /** @type {Shot} */
      const shot = { at, status: 0, remaining: null }
      try {
        const answer = await fetch(url, { signal: burst.signal, cache: 'no-store', headers: acting() })
        shot.status = answer.status
        const left = /;r=(\d+)/.exec(answer.headers.get('ratelimit') ?? '')
        shot.remaining = left === null ? null : Number(left[1])
        policy = answer.headers.get('ratelimit-policy') ?? policy
        await answer.text()
      } catch {
        if (burst.signal.aborted) return // it was never answered
      }
      shots.push(shot)
      if (shot.status !== OK && shot.status !== LIMITED) explain(url, shot.status)
      later()
    }

    /** What is neither allowed nor limited ends it; the shell sees to a session that is over. @param {string} url @param {number} status */
    function explain (url, status) {
      if (burst.signal.aborted) return
      burst.abort()
      fault.textContent = status === 0 ? 'The portal cannot be reached. Try again.' : `The portal answered ${status}.`
      if ([401, 409].includes(status)) ask('GET', url).catch(() => {})
    }

    /** With the next frame; once a second for those who want nothing to move. */
    function later () {
      if (timer !== 0) return
      const wait = still.matches ? Math.max(0, 1000 - (performance.now() - drawnAt)) : 50
      timer = window.setTimeout(() => {
        timer = 0
        draw()
      }, wait)
    }

    /** @returns {Second} */
    function total (from = 0, to = Infinity) {
      const those = shots.filter(({ at }) => at >= from && at < to)
      const count = (/** @type {(shot: Shot) => boolean} */ like) => those.filter(like).length
      const told = those.filter(({ remaining }) => remaining !== null)
      return {
        second: from / 1000 + 1,
        sent: those.length,
        allowed: count(({ status }) => status === OK),
        refused: count(({ status }) => status === LIMITED),
        failed: count(({ status }) => status !== OK && status !== LIMITED),
        remaining: told.at(-1)?.remaining ?? null,
      }
    }

    function draw () {
      drawnAt = performance.now()
      const all = total()
      const words = `${all.sent} requests answered: ${all.allowed} allowed, ${all.refused} refused${all.failed > 0 ? `, ${all.failed} failed` : ''}.`
      place.replaceChildren(plot(shots, seconds, place.clientWidth, words))
      const firstRefusal = shots.find(({ status }) => status === LIMITED)
      summary.replaceChildren(facts({
        Sent: all.sent,
        Allowed: all.allowed,
        Refused: all.refused,
        ...all.failed > 0 && { Failed: all.failed },
        'First refusal': firstRefusal === undefined ? 'none' : `after ${(firstRefusal.at / 1000).toFixed(1)} s`,
        'Left at the end': all.remaining ?? 'unknown',
        Policy: policy === '' ? 'unknown' : h('code', {}, policy),
      }))
      fill(Array.from({ length: Math.max(seconds, Math.ceil((shots.at(-1)?.at ?? 0) / 1000)) }, (_none, second) => total(second * 1000, (second + 1) * 1000)))
    }

    /** In place: somebody may be reading it. @param {Second[]} rows */
    function fill (rows) {
      const lines = numbers.querySelector('tbody')
      for (const [i, { second, sent, allowed, refused, remaining }] of rows.entries()) {
        if (lines?.children[i] === undefined) lines?.append(h('tr', {}, h('th', { scope: 'row' }, second), [0, 1, 2, 3].map(() => h('td', { class: 'number' }))))
        for (const [j, value] of [sent, allowed, refused, remaining ?? ''].entries()) {
          const cell = lines?.children[i]?.children[j + 1]
          if (cell !== undefined && cell.textContent !== String(value)) cell.textContent = String(value)
        }
      }
    }
  },
}

/**
 * Bars of what was allowed and refused, and the line of what is left.
 *
 * @param {readonly Shot[]} shots
 * @param {number} seconds
 * @param {number} width
 * @param {string} words
 */
function plot (shots, seconds, width, words) {
  const inner = { width: Math.max(120, width - EDGE.left - EDGE.right), height: HEIGHT - EDGE.top - EDGE.bottom }
  const bars = Array.from({ length: Math.ceil(Math.max(seconds * 1000, (shots.at(-1)?.at ?? 0) + 1) / BAR) }, () => ({ allowed: 0, refused: 0 }))
  for (const { at, status } of shots) {
    const bar = bars[Math.floor(at / BAR)]
    if (bar !== undefined && status === OK) bar.allowed++
    else if (bar !== undefined && status === LIMITED) bar.refused++
  }
  const most = Math.max(1, ...bars.map(({ allowed, refused }) => allowed + refused))
  const budget = Math.max(1, ...shots.map(({ remaining }) => remaining ?? 0))
  const x = (/** @type {number} */ ms) => EDGE.left + ms / (bars.length * BAR) * inner.width
  const y = (/** @type {number} */ part) => EDGE.top + (1 - part) * inner.height
  const id = newId('plot')
  const base = HEIGHT - EDGE.bottom
  const step = Math.ceil(bars.length * BAR / 1000 / 8)
  const line = shots.filter(({ remaining }) => remaining !== null).map(({ at, remaining }) => `${x(at).toFixed(1)},${y(Number(remaining) / budget).toFixed(1)}`).join(' ')
  return s('svg', { viewBox: `0 0 ${inner.width + EDGE.left + EDGE.right} ${HEIGHT}`, height: HEIGHT, role: 'img', 'aria-labelledby': id },
    s('title', { id }, words),
    s('line', { class: 'axis', x1: EDGE.left, x2: EDGE.left + inner.width, y1: base, y2: base }),
    bars.map(({ allowed, refused }, i) => {
      const [left, wide] = [x(i * BAR) + 1, Math.max(1, inner.width / bars.length - 2)]
      const [high, higher] = [allowed / most, (allowed + refused) / most]
      return [
        allowed > 0 && s('rect', { class: 'allowed', x: left, width: wide, y: y(high), height: y(0) - y(high) }),
        refused > 0 && s('rect', { class: 'refused', x: left, width: wide, y: y(higher), height: y(high) - y(higher) }),
      ]
    }),
    line !== '' && s('polyline', { class: 'left', points: line }),
    Array.from({ length: Math.floor(bars.length * BAR / 1000 / step) + 1 }, (_none, i) => s('text', { x: x(i * step * 1000), y: base + 16, 'text-anchor': 'middle' }, `${i * step} s`)),
    s('text', { x: EDGE.left - 6, y: EDGE.top + 8, 'text-anchor': 'end' }, most),
    s('text', { x: EDGE.left - 6, y: base, 'text-anchor': 'end' }, 0),
    s('text', { x: EDGE.left + inner.width + 6, y: EDGE.top + 8 }, budget),
    s('text', { x: EDGE.left + inner.width + 6, y: base }, 0))
}

/**
 * An element of a drawing.
 *
 * @param {string} name
 * @param {Record<string, string | number>} attributes
 * @param {...(SVGElement | string | number | false | (SVGElement | false | (SVGElement | false)[])[])} children
 * @returns {SVGElement}
 */
function s (name, attributes, ...children) {
  const element = /** @type {SVGElement} */ (document.createElementNS(SVG, name))
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(typeof value === 'number' ? Math.round(value * 10) / 10 : value))
  for (const child of children.flat(2)) if (child !== false) element.append(child instanceof Node ? child : String(child))
  return element
}
