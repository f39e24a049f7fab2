import { randomBytes } from 'node:crypto'
import type { Attack } from '../lab/attack.js'

export default {
  title: 'Find health records in a stolen backup',
  risk: 'API8',
  cwe: 311,
  concern: 'cipher',
  story: 'A doctor writes down what a patient has. Later Mallory has a backup of the database in her hands.',
  defence: 'The field is encrypted before it is stored, bound to its row and column, by a key that is not in the database.',
  refusal: { status: 200 },
  async run ({ step, must, signIn, stolen }) {
    const dora = await signIn('dora')
    const { body: { items } } = await must(dora.ask('GET', '/patients'), 200)
    const { id } = items.at(-1)
    const number = randomBytes(12).toString('hex')
    step('Dora writes down a diagnosis')
    const decisive = await dora.ask('PATCH', `/patients/${id}`, { json: { diagnosis: `Case ${number}: Huntington's disease` } })
    step('Mallory looks through the files')
    // A database writes down what has changed: of the number perhaps not the first digits.
    const succeeded = (await stolen(new RegExp(number.slice(8)))).length > 0
    return { succeeded, decisive, evidence: succeeded ? `The backup holds case …${number.slice(8)} and what it is` : 'The backup does not hold the diagnosis' }
  },
} satisfies Attack
