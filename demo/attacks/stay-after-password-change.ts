import type { Attack } from '../lab/attack.js'

export default {
  title: 'Stay signed in after the victim changed the password',
  risk: 'API2',
  cwe: 613,
  concern: 'tokens',
  story: 'Mallory has signed in with the password of somebody, who takes fright and chooses another one. She stays.',
  defence: 'A change of the password ends all tokens and sessions but the one that asked for it.',
  refusal: { status: 401, code: 'FST_BASTION_TOKENS_INVALID' },
  async run ({ step, must, ask, signIn, person }) {
    const victim = await person()
    step('Mallory signs in as the victim')
    const { token } = await signIn(victim.username, victim.password)
    step('The victim chooses another password')
    await must(victim.ask('POST', '/auth/password', { json: { currentPassword: victim.password, newPassword: `${victim.password}-Other` } }), 204)
    step('Mallory goes on')
    const decisive = await ask('GET', '/users/me', { token, machine: 1 })
    const succeeded = decisive.status === 200 && decisive.body.username === victim.username
    return { succeeded, decisive, evidence: succeeded ? `She still is ${victim.username}` : 'Her token ended with the old password' }
  },
} satisfies Attack
