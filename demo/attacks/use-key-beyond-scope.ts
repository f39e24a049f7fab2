import type { Attack } from '../lab/attack.js'

export default {
  title: 'Use an API key for what it was not made for',
  risk: 'API5',
  cwe: 863,
  concern: 'access',
  story: 'The victim gives a key that may read posts to a service of Mallory, which reads the figures of the account with it.',
  defence: 'The route names the permission, and a key has those alone that it was cut down to.',
  refusal: { status: 403, code: 'FST_BASTION_ACCESS_FORBIDDEN' },
  async run ({ step, must, ask, person }) {
    const victim = await person()
    step('The victim makes a key for posts')
    const { body: { key } } = await must(victim.ask('POST', '/api-keys', { json: { name: 'Reader', scopes: ['posts:read'] } }), 201)
    step('It reads figures')
    const decisive = await ask('GET', '/api/data', { key, machine: 1 })
    const succeeded = decisive.status === 200 && String(decisive.body.userId) === victim.id
    return { succeeded, decisive, evidence: succeeded ? 'The figures of the account are read with a key for posts' : 'The key does not have that scope' }
  },
} satisfies Attack
