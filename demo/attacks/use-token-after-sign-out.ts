import type { Attack } from '../lab/attack.js'

export default {
  title: 'Go on with a token after its owner signed out',
  risk: 'API2',
  cwe: 613,
  concern: 'tokens',
  story: 'The victim signs out of a computer that is not theirs. Mallory, who is next, finds the token in its memory.',
  defence: 'Signing out ends the whole family of tokens, in the shared state that each request asks.',
  refusal: { status: 401, code: 'FST_BASTION_TOKENS_INVALID' },
  async run ({ step, must, ask, person }) {
    const victim = await person()
    step('The victim signs out')
    await must(victim.ask('POST', '/auth/logout'), 204)
    step('Mallory sends the token that was left')
    const decisive = await ask('GET', '/users/me', { token: victim.token, machine: 1 })
    const succeeded = decisive.status === 200 && decisive.body.username === victim.username
    return { succeeded, decisive, evidence: succeeded ? `She is ${victim.username}` : 'The token ended with the sign-in' }
  },
} satisfies Attack
