import type { Attack } from '../lab/attack.js'

export default {
  title: 'Learn whose address has an account',
  risk: 'API2',
  cwe: 204,
  concern: 'sign-in',
  story: 'Mallory holds a list of addresses from elsewhere, and asks for a new password for each: the answers sort out who is a member here.',
  defence: 'The answer is the same for all, and what is mailed is mailed after it.',
  refusal: { status: 202 },
  async run ({ step, ask, person }) {
    const { username } = await person()
    step('The address of a member, and one of nobody')
    const known = await ask('POST', '/auth/forgot', { json: { email: `${username}@people.example` }, machine: 1 })
    const decisive = await ask('POST', '/auth/forgot', { json: { email: `no-${username}@people.example` }, machine: 1 })
    const succeeded = known.status !== decisive.status || known.text !== decisive.text
    return { succeeded, decisive, evidence: succeeded ? `${known.status} for members, ${decisive.status} for nobody` : `${decisive.status} for all` }
  },
} satisfies Attack
