import { codeOf, enrol } from '../lab/authenticator.js'
import type { Attack } from '../lab/attack.js'

export default {
  title: 'Type a code that was just used once more',
  risk: 'API2',
  cwe: 294,
  concern: 'mfa',
  story: 'Mallory knows the password, and looks over a shoulder while the code is typed. It is good for half a minute.',
  defence: 'A code is good once: the first use claims it, in parallel too.',
  refusal: { status: 401, code: 'FST_BASTION_MFA_REFUSED' },
  async run ({ step, must, ask, person }) {
    const victim = await person()
    const { username, password } = victim
    step('The victim turns the second factor on')
    const { secret } = await enrol(victim)
    const code = codeOf(secret, 1)
    const signIn = async (machine: number) => {
      const { body: { mfaToken } } = await must(ask('POST', '/auth/login', { json: { username, password }, machine }), 401)
      return ask('POST', '/auth/mfa', { json: { mfaToken, code }, machine })
    }
    step('And signs in with a code')
    await must(signIn(0), 200)
    step('Mallory types the same code')
    const decisive = await signIn(1)
    const succeeded = typeof decisive.body?.access_token === 'string'
    return { succeeded, decisive, evidence: succeeded ? 'The same code lets her in' : 'The code is spent' }
  },
} satisfies Attack
