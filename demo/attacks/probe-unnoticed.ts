import { setTimeout as pause } from 'node:timers/promises'
import type { Attack } from '../lab/attack.js'

const PROBES = 60
/** An alert comes a little after what it is about: milliseconds that an admin looks, and between two looks. */
const PATIENCE = { portal: 10_000, twin: 1500 }
const BETWEEN = 200

export default {
  title: 'Try door after door, and nobody is told',
  risk: 'API8',
  cwe: 223,
  concern: 'alerts',
  story: 'Mallory asks for what is not hers, sixty times in a row. Each time she is refused, and nobody wonders.',
  defence: 'Refusals of one person are counted; from fifty on an alert is raised and recorded, which names that person.',
  refusal: { status: 200 },
  async run ({ side, step, must, person, signIn }) {
    const mallory = await person()
    const admin = await signIn('admin')
    step(`Mallory asks ${PROBES} times for the records of patients`)
    for (let i = 0; i < PROBES; i += 10) await Promise.all(Array.from({ length: 10 }, () => must(mallory.ask('GET', '/patients'), 403)))
    step('An admin looks for an alert that tells of Mallory')
    const until = performance.now() + PATIENCE[side]
    const look = () => must(admin.ask('GET', '/audit?type=alert_raised&limit=100'), 200)
    let decisive = await look()
    while (!tells(decisive.body, mallory.id) && performance.now() < until) {
      await pause(BETWEEN)
      decisive = await look()
    }
    const told = tells(decisive.body, mallory.id)
    return { succeeded: !told, decisive, evidence: told ? 'An alert tells of her probing' : 'There is no alert that tells of her' }
  },
} satisfies Attack

function tells ({ items }: { items: { details: { rule?: string } }[] }, id: string): boolean {
  return items.some(({ details }) => details.rule === 'probing' && JSON.stringify(details).includes(JSON.stringify(id)))
}
