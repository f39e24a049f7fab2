import { by, forged, ownPairs, partsOf } from '../lab/forge.js'
import type { Attack } from '../lab/attack.js'

export default {
  title: 'Send the key for the check in the token itself',
  risk: 'API2',
  cwe: 345,
  concern: 'tokens',
  story: 'The header may hold the key of the signature (`jwk`). Mallory makes a pair of her own, signs, and puts the public half there.',
  defence: 'Headers that bring a key, or say where one is, are refused before anything is computed.',
  refusal: { status: 401, code: 'FST_BASTION_TOKENS_INVALID' },
  async run ({ step, ask, signIn, person }) {
    const mallory = await person()
    const { header, claims } = partsOf(mallory.token)
    const { id } = await signIn('admin')
    step("The admin's token, signed with her own key, which lies beside")
    let decisive
    for (const { alg, publicKey, privateKey } of ownPairs()) {
      decisive = await ask('GET', '/users/me', { token: forged({ ...header, alg, jwk: publicKey.export({ format: 'jwk' }) }, { ...claims, sub: id }, by(privateKey)) })
      if (decisive.status === 200) break
    }
    const succeeded = decisive!.status === 200 && decisive!.body.username === 'admin'
    return { succeeded, decisive: decisive!, evidence: succeeded ? 'Checked with the key that she sent: the service greets the admin' : 'Keys that are sent along are not looked at' }
  },
} satisfies Attack
