import { codeOf, enrol, wrongCodes } from '../lab/authenticator.js'
import type { Attack } from '../lab/attack.js'

const GUESSES = 10

export default {
  title: 'Guess the code of the second factor',
  risk: 'API2',
  cwe: 799,
  concern: 'mfa',
  story: 'Mallory knows the password. A code has six digits, three of them are good at any time, and nobody counts how many she tries.',
  defence: 'Five wrong codes lock the second factor of the account, wherever they come from; the right one is refused then as well.',
  refusal: { status: 429, code: 'FST_BASTION_MFA_LOCKED' },
  async run ({ step, must, ask, person }) {
    const victim = await person()
    step('The victim turns the second factor on')
    const { secret } = await enrol(victim)
    step('Mallory signs in with the password, and tries codes')
    const { body: { mfaToken } } = await must(ask('POST', '/auth/login', { json: { username: victim.username, password: victim.password }, machine: 1 }), 401)
    if (mfaToken === undefined) throw new Error('no second factor is asked for')
    for (const code of wrongCodes(secret, GUESSES)) await ask('POST', '/auth/mfa', { json: { mfaToken, code }, machine: 1 })
    step('The next one is right')
    const decisive = await ask('POST', '/auth/mfa', { json: { mfaToken, code: codeOf(secret, 1) }, machine: 1 })
    const succeeded = typeof decisive.body?.access_token === 'string'
    return { succeeded, decisive, evidence: succeeded ? `After ${GUESSES} wrong ones the right one lets her in` : 'Even the right one is refused by now' }
  },
} satisfies Attack
