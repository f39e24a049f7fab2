/** What an attack run says to people, and to programs. */
import { RISKS, type Attack } from './attack.js'
import { isShown, type Duel } from './range.js'

/** One line an attack, in the order of the risks. */
export function line (attack: Attack, duel: Duel): string {
  const time = `${Math.round(duel.twin.ms + duel.portal.ms)} ms`
  return `${isShown(duel) ? '✓' : '✗'} ${attack.risk.padEnd(5)} ${attack.title.padEnd(58)} ${told(duel.twin).padEnd(10)} ${told(duel.portal).padEnd(10)} ${time.padStart(8)}`
}

export const HEAD = `  ${'Risk'.padEnd(5)} ${'Attack'.padEnd(58)} ${'Twin'.padEnd(10)} ${'Portal'.padEnd(10)} ${'Time'.padStart(8)}`

function told ({ verdict }: Duel['twin']): string {
  return { succeeded: 'succeeds', refused: 'refused', unclear: 'unclear' }[verdict]
}

/** For programs: without the exchanges. */
export function report (attacks: Map<string, Attack>, duels: readonly Duel[]): object {
  const side = ({ verdict, evidence, ms }: Duel['twin']) => ({ verdict, evidence, ms: Math.round(ms) })
  return {
    shown: duels.filter(isShown).length,
    attacks: duels.map(duel => {
      const { title, risk, cwe, concern } = attacks.get(duel.name)!
      return { name: duel.name, title, risk, riskName: RISKS[risk], cwe: `CWE-${cwe}`, concern, shown: isShown(duel), twin: side(duel.twin), portal: side(duel.portal) }
    }),
  }
}
