import { randomBytes } from 'node:crypto'
import type { Attack } from '../lab/attack.js'

export default {
  title: "Register with a role and balance of one's own choice",
  risk: 'API3',
  cwe: 915,
  concern: 'validation',
  story: 'Mallory opens an account, and sends along what profiles show: a role, a plan and a balance.',
  defence: 'Bodies are closed: a field that the schema does not name is refused, and no account is made.',
  refusal: { status: 400, code: 'FST_BASTION_VALIDATION_REFUSED' },
  async run ({ step, ask }) {
    const username = `m${randomBytes(6).toString('hex')}`
    const password = `Riverbed-${randomBytes(6).toString('hex')}-7`
    step('Mallory registers, as a manager with money')
    const decisive = await ask('POST', '/auth/register', { json: { username, email: `${username}@people.example`, password, role: 'manager', plan: 'pro', balance: 1_000_000 } })
    step('She signs in and looks at her profile')
    const { body: { access_token: token } } = await ask('POST', '/auth/login', { json: { username, password } })
    if (token === undefined) return { succeeded: false, decisive, evidence: 'There is no such account' }
    const { body: { role, balance } } = await ask('GET', '/users/me', { token })
    return { succeeded: role === 'manager', decisive, evidence: `She is ${role}, and has ${balance}` }
  },
} satisfies Attack
