import { randomBytes } from 'node:crypto'
import type { Attack } from '../lab/attack.js'

export default {
  title: 'Register with a password that everybody tries first',
  risk: 'API2',
  cwe: 521,
  concern: 'passwords',
  story: 'Upper case, lower case, a digit, a sign: the rules are kept, and the password stands in every list of those that were stolen.',
  defence: 'Common passwords are refused, with the digits and signs that people put around them too.',
  refusal: { status: 400, code: 'FST_BASTION_PASSWORDS_WEAK' },
  async run ({ step, ask }) {
    const username = `v${randomBytes(6).toString('hex')}`
    const password = 'Password123!'
    step('Somebody registers with it')
    const decisive = await ask('POST', '/auth/register', { json: { username, email: `${username}@people.example`, password } })
    step('Mallory tries it')
    const { status } = await ask('POST', '/auth/login', { json: { username, password }, machine: 1 })
    const succeeded = status === 200
    return { succeeded, decisive, evidence: succeeded ? 'Her first guess lets her in' : 'There is no such account' }
  },
} satisfies Attack
