import type { Attack } from '../lab/attack.js'

export default {
  title: 'Go on with an API key that was switched off',
  risk: 'API2',
  cwe: 672,
  concern: 'api-keys',
  story: 'A key was seen where it should not be, and its owner switches it off. Mallory has it, and goes on.',
  defence: 'A key is asked at each use whether it still stands.',
  refusal: { status: 403, code: 'FST_BASTION_API_KEYS_DISABLED' },
  async run ({ step, must, ask, person }) {
    const victim = await person()
    step('The victim makes a key, uses it, and switches it off')
    const { body: { id, key } } = await must(victim.ask('POST', '/api-keys', { json: { name: 'Figures', scopes: ['data:read'] } }), 201)
    await must(ask('GET', '/api/data', { key }), 200)
    await must(victim.ask('PATCH', `/api-keys/${id}`, { json: { isActive: false } }), 200)
    step('Mallory goes on with it')
    const decisive = await ask('GET', '/api/data', { key, machine: 1 })
    const succeeded = decisive.status === 200 && String(decisive.body.userId) === victim.id
    return { succeeded, decisive, evidence: succeeded ? 'It reads the figures of the account' : 'The key is off' }
  },
} satisfies Attack
