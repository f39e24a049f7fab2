import type { Attack } from '../lab/attack.js'

export default {
  title: 'Have a found token explained',
  risk: 'API5',
  cwe: 306,
  concern: 'oauth2',
  story: 'Mallory has a heap of tokens from a log. The service tells anybody which of them are good, whose they are, and what they may do.',
  defence: 'Tokens are explained to resource servers, which show a key that may; to all others nothing is said.',
  refusal: { status: 401, code: 'FST_BASTION_ACCESS_UNAUTHENTICATED' },
  async run ({ step, ask, person }) {
    const victim = await person()
    step('Mallory asks about a token')
    const decisive = await ask('POST', '/introspect', { form: { token: victim.token }, machine: 1 })
    const succeeded = decisive.body?.active === true && String(decisive.body.sub) === victim.id
    return { succeeded, decisive, evidence: succeeded ? `It is good, and belongs to ${decisive.body.username}, ${decisive.body.email}` : 'Nothing is said' }
  },
} satisfies Attack
