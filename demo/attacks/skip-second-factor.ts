import { enrol } from '../lab/authenticator.js'
import type { Attack } from '../lab/attack.js'

export default {
  title: 'Leave the second factor out',
  risk: 'API2',
  cwe: 304,
  concern: 'mfa',
  story: 'Mallory knows the password. She is asked for a code, and given a token to send it with: she uses that token for what she wants, without any code.',
  defence: 'What is given between password and code is no token: it opens nothing, and is good for the code alone.',
  refusal: { status: 401, code: 'FST_BASTION_TOKENS_INVALID' },
  async run ({ step, must, ask, person }) {
    const victim = await person()
    step('The victim turns the second factor on')
    await enrol(victim)
    step('Mallory signs in with the password')
    const { body: { mfaToken } } = await must(ask('POST', '/auth/login', { json: { username: victim.username, password: victim.password }, machine: 1 }), 401)
    if (mfaToken === undefined) throw new Error('no second factor is asked for')
    step('And goes on without a code')
    const decisive = await ask('GET', '/users/me', { token: mfaToken, machine: 1 })
    const succeeded = decisive.status === 200 && decisive.body.username === victim.username
    return { succeeded, decisive, evidence: succeeded ? `She is ${victim.username}, by the password alone` : 'Without a code there is no token' }
  },
} satisfies Attack
