/** The attack lab: the same attacks against an unguarded twin and against a portal, side by side. */
import { ask, Refused, Unreachable } from '../ask.js'
import { attempt, badge, button, card, h } from '../dom.js'

/** @import { Page } from '../pages.js' */
/** @typedef {{ name: string, title: string, risk: string, riskName: string, cwe: number, concern: string, story: string, defence: string }} Attack */
/** @typedef {{ step: string, status: number, ms: number, request: string, response: string }} Exchange */
/** @typedef {{ verdict: 'succeeded' | 'refused' | 'unclear', evidence: string, ms: number, decisive: number, left: number, exchanges: Exchange[] }} Side */
/** @typedef {{ name: string, shown: boolean, twin: Side, portal: Side }} Duel */
/** @typedef {{ attack: Attack, row: HTMLElement, twin: HTMLElement, portal: HTMLElement, time: HTMLElement, opener: HTMLButtonElement, runner: HTMLButtonElement, duel: Duel | null }} Line */

const COLUMNS = ['Attack', 'Weakness', 'Twin', 'Portal', 'Time', '']
const WORDS = /** @type {const} */ ({ succeeded: 'succeeds', refused: 'refused', unclear: 'unclear' })
/** On the twin an attack should succeed, on the portal it should not. */
const KINDS = /** @type {const} */ ({ twin: { succeeded: 'bad', refused: 'warn', unclear: 'warn' }, portal: { succeeded: 'bad', refused: 'good', unclear: 'warn' } })
const canCopy = navigator.clipboard !== undefined

/** @type {Page} */
export default {
  async show (outlet, { signal, tell }) {
    /** @type {{ items: Attack[] }} */
    const { items } = await ask('GET', '/lab/attacks', undefined, { signal })
    let isRunning = false
    let isStopped = false
    const lines = items.map(lineOf)
    const all = h('button', { type: 'button', class: 'first', onclick: () => runThese(lines) }, `Run all ${items.length}`)
    const stop = h('button', { type: 'button', 'aria-disabled': 'true', onclick: halt }, 'Stop')
    const progress = h('progress', { max: '1', value: '0', 'aria-label': 'Attacks that were run', hidden: true })
    const said = h('p', { role: 'status' })
    const range = card('The range',
      h('p', {}, 'Each attack runs as real HTTP against two servers that are started for it: a twin of the portal as a hurried team writes it, and a portal in production mode. Both are thrown away afterwards. None of it goes against the portal that you are using.'),
      h('p', { class: 'quiet' }, 'The first attack takes longer: both servers start for it.'),
      h('div', { class: 'toolbar' }, all, stop), progress, said)
    const risks = [...new Set(items.map(({ risk }) => risk))]
    const attacks = h('div', { class: 'scroll', role: 'region', tabindex: '0', 'aria-label': 'Attacks' }, h('table', {},
      h('thead', {}, h('tr', {}, COLUMNS.map(title => title === '' ? h('td') : h('th', { scope: 'col' }, title)))),
      risks.map(risk => h('tbody', {},
        h('tr', { class: 'risk' }, h('th', { scope: 'rowgroup', colspan: COLUMNS.length }, `${risk}: ${items.find(attack => attack.risk === risk)?.riskName}`)),
        lines.filter(({ attack }) => attack.risk === risk).map(({ row }) => row)))))
    outlet.append(range, card('Attacks, by the OWASP API Security Top 10', attacks))
    return () => { isStopped = true }

    /** @param {Attack} attack @returns {Line} */
    function lineOf (attack) {
      const [twin, portal, time] = [h('td'), h('td'), h('td', { class: 'number' })]
      const opener = h('button', { type: 'button', class: 'link', 'aria-expanded': 'false', onclick: () => toggle(line) }, attack.title)
      const runner = h('button', { type: 'button', class: 'small', 'aria-label': `Run: ${attack.title}`, onclick: () => runThese([line]) }, 'Run')
      const row = h('tr', { id: `attack-${attack.name}` },
        h('th', { scope: 'row' }, opener), h('td', {}, `CWE-${attack.cwe}`, h('br'), h('span', { class: 'quiet' }, attack.concern)), twin, portal, time, h('td', {}, runner))
      /** @type {Line} */
      const line = { attack, row, twin, portal, time, opener, runner, duel: null }
      return line
    }

    /** One after the other, until somebody stops it. @param {readonly Line[]} these */
    async function runThese (these) {
      if (isRunning) return
      isRunning = true
      isStopped = false
      enable()
      progress.hidden = these.length === 1
      progress.max = these.length
      let done = 0
      await attempt(range, async () => {
        for (const line of these) {
          if (isStopped) break
          progress.value = done
          said.textContent = `${these.length > 1 ? `${done + 1} of ${these.length}: ` : ''}${line.attack.title} …`
          await runOne(line)
          done++
        }
      })
      progress.value = done
      isRunning = false
      enable()
      if (signal.aborted) return
      const shown = these.filter(({ duel }) => duel?.shown).length
      said.textContent = these.length === 1
        ? done === 0 ? '' : `${these[0]?.attack.title}: ${told(these[0])}.`
        : `${done} of ${these.length} run: ${shown} succeed on the twin and are refused by the portal.`
      tell(isStopped ? 'Stopped.' : '')
    }

    /** @param {Line} line */
    async function runOne (line) {
      line.row.setAttribute('aria-busy', 'true')
      line.twin.replaceChildren(badge('runs …'))
      line.portal.replaceChildren(badge('runs …'))
      line.time.textContent = ''
      try {
        /** @type {Duel} */
        const duel = await ask('POST', `/lab/attacks/${line.attack.name}`, undefined, { signal })
        line.duel = duel
        line.twin.replaceChildren(badge(WORDS[duel.twin.verdict], KINDS.twin[duel.twin.verdict]))
        line.portal.replaceChildren(badge(WORDS[duel.portal.verdict], KINDS.portal[duel.portal.verdict]))
        line.time.textContent = `${duel.twin.ms + duel.portal.ms} ms`
        const isOpen = line.opener.ariaExpanded === 'true'
        if (isOpen) close(line)
        if (isOpen) toggle(line)
      } catch (error) {
        for (const cell of [line.twin, line.portal]) cell.replaceChildren(error instanceof Refused || error instanceof Unreachable ? badge('not run', 'warn') : '')
        throw error
      } finally {
        line.row.removeAttribute('aria-busy')
      }
    }

    function halt () {
      if (!isRunning || isStopped) return
      isStopped = true
      stop.ariaDisabled = 'true'
      said.textContent = 'Stops after this one …'
    }

    /** Not by `disabled`: that takes the keyboard away from what was pressed. */
    function enable () {
      for (const control of [all, ...lines.map(({ runner }) => runner)]) control.ariaDisabled = String(isRunning)
      stop.ariaDisabled = String(!isRunning)
    }

    /** @param {Line} line */
    function toggle (line) {
      if (line.opener.ariaExpanded === 'true') return close(line)
      line.opener.ariaExpanded = 'true'
      line.row.after(h('tr', { class: 'more' }, h('td', { colspan: COLUMNS.length }, detailsOf(line))))
    }

    /** @param {Line} line */
    function close (line) {
      line.opener.ariaExpanded = 'false'
      if (line.row.nextElementSibling?.classList.contains('more')) line.row.nextElementSibling.remove()
    }
  },
}

/** @param {Line | undefined} line */
function told (line) {
  const duel = line?.duel
  return duel === null || duel === undefined ? 'not run' : `on the twin it ${duel.twin.verdict === 'succeeded' ? 'succeeds' : `is ${duel.twin.verdict}`}, on the portal it ${duel.portal.verdict === 'succeeded' ? 'succeeds' : `is ${duel.portal.verdict}`}`
}

/** @param {Line} line */
function detailsOf ({ attack, duel }) {
  return h('div', { class: 'stack' },
    h('p', {}, attack.story),
    h('p', {}, h('strong', {}, 'What stands in the way: '), attack.defence),
    duel === null
      ? h('p', { class: 'quiet' }, 'It was not run yet.')
      : h('div', { class: 'sides' }, sideOf('The unguarded twin', 'twin', duel.twin), sideOf('The portal', 'portal', duel.portal)))
}

/** @param {string} title @param {'twin' | 'portal'} name @param {Side} side */
function sideOf (title, name, { verdict, evidence, ms, decisive, left, exchanges }) {
  return h('section', { 'aria-label': title },
    h('h3', {}, title, ' ', badge(WORDS[verdict], KINDS[name][verdict])),
    h('p', { class: 'evidence' }, evidence, h('span', { class: 'quiet' }, ` (${ms} ms)`)),
    left > 0 && h('p', { class: 'quiet' }, `${left} of its requests are left out here, in the middle.`),
    exchanges.map((exchange, i) => exchangeOf(exchange, i, i === decisive, exchanges[i - 1]?.step)))
}

/** @param {Exchange} exchange @param {number} place @param {boolean} isDecisive @param {string | undefined} before */
function exchangeOf ({ step, status, ms, request, response }, place, isDecisive, before) {
  const [asked = ''] = request.split(' HTTP/1.1', 1)
  const details = h('details', { class: isDecisive ? 'exchange decisive' : 'exchange', ontoggle: fill },
    h('summary', {}, h('code', {}, asked.length > 100 ? `${asked.slice(0, 100)}…` : asked), ` → ${status} `, isDecisive && badge('decides', 'warn'), h('span', { class: 'quiet' }, ` ${ms} ms`)))
  // What nobody opens need not be there.
  if (isDecisive) details.open = true
  return [step !== '' && step !== before && h('p', { class: 'step' }, step), details]

  function fill () {
    if (!details.open || details.childElementCount > 1) return
    details.append(
      h('pre', { class: 'wrap', tabindex: '0', role: 'region', 'aria-label': `Request ${place + 1}` }, request),
      h('pre', { class: 'wrap', tabindex: '0', role: 'region', 'aria-label': `Answer ${place + 1}` }, response),
      canCopy ? button('Copy', copy, { class: 'small', 'aria-label': `Copy: request and answer ${place + 1}` }) : '')
  }

  /** @param {HTMLButtonElement} element */
  async function copy (element) {
    await navigator.clipboard.writeText(`${request}\n\n${response}\n`)
    element.textContent = 'Copied'
    element.ariaLabel = `Copied: request and answer ${place + 1}`
  }
}
