import { textOf } from '../lab/forge.js'
import type { Attack } from '../lab/attack.js'

export default {
  title: 'Have one credential checked and another acted upon',
  risk: 'API2',
  cwe: 441,
  concern: 'identity',
  story: 'Mallory sends a good key of her own, and beside it a token that names the victim: one part of the service checks the one, another acts on the other.',
  defence: 'A request carries one credential. Two are refused, whether they are good or not.',
  refusal: { status: 400, code: 'FST_BASTION_IDENTITY_TWO_CREDENTIALS' },
  async run ({ step, must, ask, person, signIn }) {
    const mallory = await person()
    const { id } = await signIn('alice')
    step('Mallory makes a key of her own')
    const { body: { key } } = await must(mallory.ask('POST', '/api-keys', { json: { name: 'Figures', scopes: ['data:read'] } }), 201)
    step('And sends it with a token that names Alice')
    const decisive = await ask('GET', '/api/data', { key, token: `${textOf({ alg: 'HS256', typ: 'JWT' }, { sub: id })}.anything` })
    const succeeded = decisive.status === 200 && String(decisive.body.userId) === id
    return { succeeded, decisive, evidence: succeeded ? `She reads the figures of Alice: ${decisive.body.orders} orders` : 'Two credentials are one too many' }
  },
} satisfies Attack
