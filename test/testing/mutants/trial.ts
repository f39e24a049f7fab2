/** The attack that should find a mutation, by its number in the table, in a process of its own: whatever tree this file lies in is attacked. Prints what is found, a line a mutation. */
import type { FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import { attack, type AttackOptions } from '../../../plugins/testing/index.js'
import { familyOf } from '../../../plugins/testing/catalogue.js'
import { build as buildService } from '../service.js'
import { MUTANTS, type Mutant } from './table.js'

const ends: (() => unknown)[] = []
/** Stands in for the test that builders clean up after. What a mutated portal answers fails none. */
const t = { teardown: (end: () => unknown) => { ends.push(end) }, fail: () => {} } as unknown as Test

interface Subject { app: FastifyInstance, options: AttackOptions }
const subjects: Record<Mutant['on'], () => Promise<Subject>> = {
  service: () => buildService(t),
  portal: async () => {
    // By name: the roles and permissions that the portal declares are those of its own project alone.
    const [{ build }, { attackedPortal }] = await Promise.all(['portal', 'attacked'].map(name => import(`../../demo/${name}.js`)))
    const portal = await build(t)
    return { app: portal.app, options: await attackedPortal(portal) }
  },
}
const built = new Map<Mutant['on'], Subject>()

for (const number of process.argv.slice(2)) {
  const { on, only, expected, families = [familyOf(expected)], policy } = MUTANTS[Number(number)]!
  const { app, options } = built.get(on) ?? await subjects[on]()
  built.set(on, { app, options })
  const { findings } = await attack(app, { ...options, ...only !== undefined && { only: [...only] }, families: [...families], policy })
  console.log(JSON.stringify({ number: Number(number), found: findings.map(({ id, route }) => ({ id, route })) }))
}
for (const end of ends.reverse()) await end()
process.exit()
