import { enrol } from '../lab/authenticator.js'
import type { Attack } from '../lab/attack.js'

export default {
  title: 'Use a recovery code that was used',
  risk: 'API2',
  cwe: 672,
  concern: 'mfa',
  story: 'Mallory knows the password, and finds a sheet of recovery codes in the waste, on which one is crossed out.',
  defence: 'A recovery code is good once, by an atomic write.',
  refusal: { status: 401, code: 'FST_BASTION_MFA_REFUSED' },
  async run ({ step, must, ask, person }) {
    const victim = await person()
    const { username, password } = victim
    step('The victim turns the second factor on')
    const { recoveryCodes: [code] } = await enrol(victim)
    const signIn = async (machine: number) => {
      const { body: { mfaToken } } = await must(ask('POST', '/auth/login', { json: { username, password }, machine }), 401)
      return ask('POST', '/auth/mfa', { json: { mfaToken, code }, machine })
    }
    step('And signs in with a recovery code')
    await must(signIn(0), 200)
    step('Mallory types the one that is crossed out')
    const decisive = await signIn(1)
    const succeeded = typeof decisive.body?.access_token === 'string'
    return { succeeded, decisive, evidence: succeeded ? 'The crossed-out code lets her in' : 'The code is spent' }
  },
} satisfies Attack
