import type { Attack } from '../lab/attack.js'

export default {
  title: 'Share a stolen refresh token with its owner, unnoticed',
  risk: 'API2',
  cwe: 294,
  concern: 'tokens',
  story: 'Mallory has stolen a refresh token and makes herself a pair of it. When the owner comes with the same one, nothing is to happen to hers.',
  defence: 'A refresh token is good once. Where it comes again somebody has stolen it, and the whole family ends: the thief is out as well.',
  refusal: { status: 401, code: 'FST_BASTION_TOKENS_INVALID' },
  async run ({ step, must, ask, person }) {
    const victim = await person()
    step('Mallory refreshes with what she stole')
    const { body: stolen } = await must(ask('POST', '/auth/refresh', { json: { refresh_token: victim.refreshToken }, machine: 1 }), 200)
    await must(ask('GET', '/users/me', { token: stolen.access_token, machine: 1 }), 200)
    step('Later its owner does, with the same one')
    await ask('POST', '/auth/refresh', { json: { refresh_token: victim.refreshToken } })
    step('Mallory goes on with hers')
    const decisive = await ask('GET', '/users/me', { token: stolen.access_token, machine: 1 })
    const succeeded = decisive.status === 200 && decisive.body.username === victim.username
    return { succeeded, decisive, evidence: succeeded ? `She is ${victim.username}, who notices nothing` : 'The second use has ended all tokens of the family' }
  },
} satisfies Attack
