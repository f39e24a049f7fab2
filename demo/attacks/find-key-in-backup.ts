import type { Attack } from '../lab/attack.js'

export default {
  title: 'Find API keys in a stolen backup',
  risk: 'API2',
  cwe: 312,
  concern: 'api-keys',
  story: 'A backup of data and logs was left where Mallory found it. She looks for what has the form of a key, and tries it.',
  defence: 'Of a key a keyed hash is kept, the key to which is not in the database; the key itself is shown once.',
  refusal: { status: 401, code: 'FST_BASTION_API_KEYS_INVALID' },
  async run ({ step, must, ask, person, stolen }) {
    const victim = await person()
    step('The victim makes a key, and uses it')
    const { body: { id, key } } = await must(victim.ask('POST', '/api-keys', { json: { name: 'Figures', scopes: ['data:read'] } }), 201)
    await must(ask('GET', '/api/data', { key }), 200)
    step('Mallory looks through the backup')
    const found = [...new Set((await stolen(/sk_live_\w{32,}/)).map(([text]) => text!))].slice(0, 10)
    step('And tries what has the form of a key')
    let decisive = await ask('GET', '/api/data', { key: `sk_live_${id}`, machine: 1 })
    // The byte that stands behind a text may look like one more letter of it.
    for (const text of found.flatMap(text => [text, text.slice(0, -1)])) {
      if (decisive.status !== 200) decisive = await ask('GET', '/api/data', { key: text, machine: 1 })
    }
    const succeeded = decisive.status === 200
    return { succeeded, decisive, evidence: succeeded ? `A key that stands there reads the data of user ${decisive.body.userId}` : 'No text that has the form of a key is one' }
  },
} satisfies Attack
