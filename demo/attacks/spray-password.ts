import { randomBytes } from 'node:crypto'
import type { Attack } from '../lab/attack.js'

const NAMES = 33
const AT_ONCE = 11

export default {
  title: 'Try one password on many names',
  risk: 'API2',
  cwe: 307,
  concern: 'sign-in',
  story: 'One password a name, so that no name is ever locked: among many there is one whose owner chose what many choose.',
  defence: 'Failures count by address too: thirty over ten names or more lock it.',
  refusal: { status: 429, code: 'FST_BASTION_SIGN_IN_LOCKED' },
  async run ({ step, must, ask }) {
    const password = 'Septemberfair-2026'
    const username = `v${randomBytes(6).toString('hex')}`
    await must(ask('POST', '/auth/register', { json: { username, email: `${username}@people.example`, password } }), 201)
    const attempt = (name: string) => ask('POST', '/session/login', { json: { username: name, password }, machine: 1 })
    step('The same password on one name after the other')
    for (let i = 0; i < NAMES; i += AT_ONCE) await Promise.all(Array.from({ length: AT_ONCE }, () => attempt(`n${randomBytes(6).toString('hex')}`)))
    step('And on that of the victim')
    const decisive = await attempt(username)
    const succeeded = decisive.status === 200 && decisive.body.user.username === username
    return { succeeded, decisive, evidence: succeeded ? `The ${NAMES + 1}th name fits: she is signed in as ${username}` : 'Her address is locked by then' }
  },
} satisfies Attack
