import { partsOf, textOf } from '../lab/forge.js'
import type { Attack } from '../lab/attack.js'

export default {
  title: 'Take all data of another by a token that was altered',
  risk: 'API2',
  cwe: 347,
  concern: 'identity',
  story: 'Mallory writes the id of Alice into the claims of her own token, leaves the signature as it is, and asks for the export of “her” data.',
  defence: 'Credentials are read in one place for all routes, and a signature over something else is none.',
  refusal: { status: 401, code: 'FST_BASTION_TOKENS_INVALID' },
  async run ({ step, ask, signIn, person }) {
    const mallory = await person()
    const { header, claims } = partsOf(mallory.token)
    const { id } = await signIn('alice')
    step('Mallory asks for the export with altered claims and the old signature')
    const decisive = await ask('GET', '/users/me/export', { token: `${textOf(header, { ...claims, sub: id })}.${mallory.token.split('.')[2]}` })
    const succeeded = decisive.status === 200 && decisive.text.includes('alice')
    return { succeeded, decisive, evidence: succeeded ? `She reads ${decisive.body.orders.length} orders of Alice, and all else` : 'The signature is not over these claims' }
  },
} satisfies Attack
