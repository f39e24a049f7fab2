/** What an attack run says to people, in 100 columns, and to programs. */
import { RISKS, type Attack, type Risk } from './attack.js'
import { isShown, type Duel, type Result } from './range.js'

/** As many as there are to be, for a run of all to count. */
export const ENOUGH = 40

const TITLE = 62
const SIDE = 10
const TIME = 9
const TOLD = { succeeded: 'succeeds', refused: 'refused', unclear: 'unclear' } as const

/** Text, and what makes it stand out on a terminal. */
export type Paint = (colour: 'red' | 'green' | 'dim' | 'bold', text: string) => string

const CODES = { red: 31, green: 32, dim: 2, bold: 1 }

/** Colours where somebody looks at it, and does not want it plain (no-color.org). */
export function painter (stream: { isTTY?: boolean }, { NO_COLOR = '', FORCE_COLOR = '', TERM = '' }: Record<string, string | undefined>): Paint {
  const isColoured = NO_COLOR === '' && TERM !== 'dumb' && (stream.isTTY === true || !['', '0'].includes(FORCE_COLOR))
  return (colour, text) => isColoured ? `\u001b[${CODES[colour]}m${text}\u001b[0m` : text
}

/** Before the attacks of a risk. */
export function heading (risk: Risk, paint: Paint): string {
  return `\n${paint('bold', `${risk.padEnd(6)}${RISKS[risk]}`)}`
}

/** One attack; where a side did not do what it is for, what it did. */
export function lines ({ title }: Attack, duel: Duel, paint: Paint): string {
  const { twin, portal } = duel
  const told = (result: Result, wanted: Result['verdict']) => paint(result.verdict === wanted ? 'green' : 'red', TOLD[result.verdict].padEnd(SIDE))
  const time = paint('dim', `${Math.round(twin.ms + portal.ms)} ms`.padStart(TIME))
  const mark = isShown(duel) ? paint('green', '✓') : paint('red', '✗')
  const line = `${mark} ${title.padEnd(TITLE)} ${told(twin, 'succeeded')} ${told(portal, 'refused')} ${time}`
  return isShown(duel) ? line : `${line}\n    twin:   ${twin.evidence}\n    portal: ${portal.evidence}`
}

export const HEAD = `  ${''.padEnd(TITLE)} ${'Twin'.padEnd(SIDE)} ${'Portal'.padEnd(SIDE)} ${'Time'.padStart(TIME)}`

/** Of those that were run, how many showed what they are for; and `isEnough`: a run of all that is good. */
export function summary (duels: readonly Duel[], isAll: boolean): { text: string, isGood: boolean } {
  const shown = duels.filter(isShown).length
  const isEnough = !isAll || duels.length >= ENOUGH
  const text = `${shown} of ${duels.length} attacks succeed on the twin and fail on the portal${isEnough ? '' : `; there are to be ${ENOUGH}`}`
  return { text, isGood: isEnough && duels.length > 0 && shown === duels.length }
}

/** For programs: without the exchanges. */
export function report (attacks: Map<string, Attack>, duels: readonly Duel[]): object {
  const side = ({ verdict, evidence, ms }: Result) => ({ verdict, evidence, ms: Math.round(ms) })
  return {
    shown: duels.filter(isShown).length,
    attacks: duels.map(duel => {
      const { title, risk, cwe, concern } = attacks.get(duel.name)!
      return { name: duel.name, title, risk, riskName: RISKS[risk], cwe: `CWE-${cwe}`, concern, shown: isShown(duel), twin: side(duel.twin), portal: side(duel.portal) }
    }),
  }
}
