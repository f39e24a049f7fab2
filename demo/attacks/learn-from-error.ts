import type { Attack } from '../lab/attack.js'

export default {
  title: 'Learn statements and paths from an error',
  risk: 'API8',
  cwe: 209,
  concern: 'errors',
  story: 'Mallory asks for an order by something that is no id, and reads what the error tells.',
  defence: 'An error says what the client can mend; what else is known of it stands in the log.',
  refusal: { status: 404 },
  async run ({ step, person }) {
    const mallory = await person()
    step('Mallory asks for the order “x”')
    const decisive = await mallory.ask('GET', '/orders/x')
    const found = /select \* from \w+|\/[\w/.-]+\.[jt]s:\d+/.exec(decisive.text)
    return { succeeded: found !== null, decisive, evidence: found === null ? `She is told: ${decisive.body.detail}` : `She is told: ${found[0]}` }
  },
} satisfies Attack
