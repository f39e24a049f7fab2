import { codeOf, enrol, signInBy } from '../lab/authenticator.js'
import type { Attack } from '../lab/attack.js'

export default {
  title: 'Type a code that was just used once more',
  risk: 'API2',
  cwe: 294,
  concern: 'mfa',
  story: 'Mallory knows the password, and looks over a shoulder while the code is typed. It is good for half a minute.',
  defence: 'A code is good once: the first use claims it, in parallel too.',
  refusal: { status: 401, code: 'FST_BASTION_MFA_REFUSED' },
  async run (target) {
    const { step, must, person } = target
    const victim = await person()
    step('The victim turns the second factor on')
    const { secret } = await enrol(victim)
    const code = codeOf(secret, 1)
    step('And signs in with a code')
    await must(signInBy(code, victim, target, 0), 200)
    step('Mallory types the same code')
    const decisive = await signInBy(code, victim, target, 1)
    const succeeded = typeof decisive.body?.access_token === 'string'
    return { succeeded, decisive, evidence: succeeded ? 'The same code lets her in' : 'The code is spent' }
  },
} satisfies Attack
