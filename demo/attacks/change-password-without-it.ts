import type { Attack } from '../lab/attack.js'

export default {
  title: 'Take an account over by changing its password',
  risk: 'API2',
  cwe: 620,
  concern: 'sign-in',
  story: 'Mallory holds a token for some minutes, and wants the account for good: she chooses another password, with something made up for the old one.',
  defence: 'Who changes the password shows the old one, and what is wrong counts towards the lock.',
  refusal: { status: 401, code: 'FST_BASTION_SIGN_IN_REFUSED' },
  async run ({ step, ask, person }) {
    const victim = await person()
    const newPassword = 'Mallory-was-here-1'
    step('Mallory changes the password with a stolen token')
    const decisive = await ask('POST', '/auth/password', { token: victim.token, json: { currentPassword: 'Made-up-entirely-1', newPassword }, machine: 1 })
    step('And signs in with it')
    const { status } = await ask('POST', '/auth/login', { json: { username: victim.username, password: newPassword }, machine: 1 })
    const succeeded = status === 200
    return { succeeded, decisive, evidence: succeeded ? 'The account is hers, and the victim is locked out' : 'The old password is asked for' }
  },
} satisfies Attack
