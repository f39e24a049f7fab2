import { randomBytes } from 'node:crypto'
import type { Attack } from '../lab/attack.js'

export default {
  title: "Write a line of one's own into the log",
  risk: 'API8',
  cwe: 117,
  concern: 'log',
  story: 'What is searched for stands in the log. Mallory puts the end of a line into it, and behind it a line that clears her.',
  defence: 'Each entry is one line of JSON, in which the end of a line is two letters; what a query says is not logged.',
  refusal: { status: 200 },
  async run ({ step, ask, stolen }) {
    const forged = `2026-01-01T00:00:00.000Z admin: mallory did nothing wrong (${randomBytes(4).toString('hex')})`
    step('Somebody searches for two lines')
    const decisive = await ask('GET', `/search?q=${encodeURIComponent(`steps\r\n${forged}`)}`)
    step('The admins read the log')
    const succeeded = (await stolen(/^2026-01-01T.*$/m)).some(([line]) => line === forged)
    return { succeeded, decisive, evidence: succeeded ? `A line says: ${forged}` : 'No line says what she wrote' }
  },
} satisfies Attack
