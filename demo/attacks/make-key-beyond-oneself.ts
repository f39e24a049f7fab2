import type { Attack } from '../lab/attack.js'

export default {
  title: 'Make an API key that may do more than oneself',
  risk: 'API5',
  cwe: 269,
  concern: 'api-keys',
  story: 'Mallory may not list users. She makes a key, which is hers to make, and asks for that scope.',
  defence: 'Who makes a key must have each scope; and at each use the key can do no more than its owner can by then.',
  refusal: { status: 403, code: 'FST_BASTION_API_KEYS_EXCEEDS' },
  async run ({ step, ask, person }) {
    const mallory = await person()
    step('Mallory makes a key with the scope of moderators')
    const made = await mallory.ask('POST', '/api-keys', { json: { name: 'Curious', scopes: ['users:read'] } })
    if (made.status !== 201) return { succeeded: false, decisive: made, evidence: 'There is no such key' }
    step('The key lists users')
    const decisive = await ask('GET', '/api/v2/users', { key: made.body.key })
    const succeeded = decisive.status === 200 && decisive.body.items.length > 1
    return { succeeded, decisive, evidence: `The key reads a list of ${decisive.body?.items?.length ?? 0} users` }
  },
} satisfies Attack
