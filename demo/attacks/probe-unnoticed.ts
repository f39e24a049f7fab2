import { setTimeout as pause } from 'node:timers/promises'
import type { Attack } from '../lab/attack.js'

const PROBES = 60
/** Looks into the trail, and milliseconds between them: an alert comes a little after what it is about. */
const LOOKS = 15
const BETWEEN = 100

export default {
  title: 'Try door after door, and nobody is told',
  risk: 'API8',
  cwe: 223,
  concern: 'alerts',
  story: 'Mallory asks for what is not hers, sixty times in a row. Each time she is refused, and nobody wonders.',
  defence: 'Refusals of one person are counted; from fifty on an alert is raised and recorded.',
  refusal: { status: 200 },
  async run ({ step, person, signIn }) {
    const mallory = await person()
    const admin = await signIn('admin')
    step(`Mallory asks ${PROBES} times for the records of patients`)
    for (let i = 0; i < PROBES; i += 10) await Promise.all(Array.from({ length: 10 }, () => mallory.ask('GET', '/patients')))
    step('An admin looks for alerts')
    let decisive = await admin.ask('GET', '/audit?type=alert_raised')
    for (let i = 0; i < LOOKS && !tells(decisive.body); i++) {
      await pause(BETWEEN)
      decisive = await admin.ask('GET', '/audit?type=alert_raised')
    }
    return { succeeded: !tells(decisive.body), decisive, evidence: tells(decisive.body) ? 'An alert tells of the probing' : 'There is no alert' }
  },
} satisfies Attack

function tells ({ items }: { items: { details: { rule?: string } }[] }): boolean {
  return items.some(({ details }) => details.rule === 'probing')
}
