import type { Attack } from '../lab/attack.js'

export default {
  title: 'Use a refresh token where an access token belongs',
  risk: 'API2',
  cwe: 287,
  concern: 'tokens',
  story: 'Mallory has found a refresh token, which lives for long. Refreshing would be noticed; so it is sent as it is, for reading.',
  defence: 'Each kind of token has keys, a type and an audience of its own.',
  refusal: { status: 401, code: 'FST_BASTION_TOKENS_INVALID' },
  async run ({ step, ask, person }) {
    const victim = await person()
    step('The found refresh token reads the profile')
    const decisive = await ask('GET', '/users/me', { token: victim.refreshToken })
    const succeeded = decisive.status === 200 && decisive.body.username === victim.username
    return { succeeded, decisive, evidence: succeeded ? `It reads the profile of ${victim.username}` : 'It is no access token' }
  },
} satisfies Attack
