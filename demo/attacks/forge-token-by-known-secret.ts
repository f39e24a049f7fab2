import { forged, partsOf } from '../lab/forge.js'
import type { Attack } from '../lab/attack.js'

/** What tutorials sign with. */
const KNOWN = ['password', 'changeme', 'supersecret', 'your-256-bit-secret', 'secret', 'keyboard cat', 'jwt-secret', 'some-secret', 'shhhhh']

export default {
  title: "Sign an admin's token with a guessed secret",
  risk: 'API2',
  cwe: 1391,
  concern: 'tokens',
  story: 'Secrets of tutorials are tried: with each a token for the admin is signed by HS256, until one is taken.',
  defence: 'Keys are derived from one master secret of 32 bytes or more, short and known ones stop boot; and no token is taken of another algorithm than the key has.',
  refusal: { status: 401, code: 'FST_BASTION_TOKENS_INVALID' },
  async run ({ step, ask, signIn, person }) {
    const { header, claims } = partsOf((await person()).token)
    const { id } = await signIn('admin')
    step("The admin's token, signed with the secrets of tutorials one after the other")
    let decisive
    let secret
    for (secret of KNOWN) {
      decisive = await ask('GET', '/users/me', { token: forged({ ...header, alg: 'HS256' }, { ...claims, sub: id, role: 'admin' }, secret) })
      if (decisive.status === 200) break
    }
    const succeeded = decisive!.status === 200 && decisive!.body.username === 'admin'
    return { succeeded, decisive: decisive!, evidence: succeeded ? `Signed with “${secret}”: the service greets the admin` : `None of ${KNOWN.length} known secrets is taken` }
  },
} satisfies Attack
