import { enrol, signInBy } from '../lab/authenticator.js'
import type { Attack } from '../lab/attack.js'

export default {
  title: 'Use a recovery code that was used',
  risk: 'API2',
  cwe: 672,
  concern: 'mfa',
  story: 'Mallory knows the password, and finds a sheet of recovery codes in the waste, on which one is crossed out.',
  defence: 'A recovery code is good once, by an atomic write.',
  refusal: { status: 401, code: 'FST_BASTION_MFA_REFUSED' },
  async run (target) {
    const { step, must, person } = target
    const victim = await person()
    step('The victim turns the second factor on')
    const { recoveryCodes } = await enrol(victim)
    const code = recoveryCodes[0]!
    step('And signs in with a recovery code')
    await must(signInBy(code, victim, target, 0), 200)
    step('Mallory types the one that is crossed out')
    const decisive = await signInBy(code, victim, target, 1)
    const succeeded = typeof decisive.body?.access_token === 'string'
    return { succeeded, decisive, evidence: succeeded ? 'The crossed-out code lets her in' : 'The code is spent' }
  },
} satisfies Attack
