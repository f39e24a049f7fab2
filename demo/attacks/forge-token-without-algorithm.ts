import { partsOf, textOf } from '../lab/forge.js'
import type { Attack } from '../lab/attack.js'

export default {
  title: 'Become admin by a token that is signed by nobody',
  risk: 'API2',
  cwe: 347,
  concern: 'tokens',
  story: 'A token says in its header how it is signed. Mallory writes `none` there, the admin into the claims, and leaves the signature out.',
  defence: 'A header must be, byte for byte, one that a key of the service writes: what a token says of itself is never interpreted.',
  refusal: { status: 401, code: 'FST_BASTION_TOKENS_INVALID' },
  async run ({ step, ask, signIn, person }) {
    const mallory = await person()
    const { header, claims } = partsOf(mallory.token)
    const { id } = await signIn('admin')
    step("The admin's token, without a signature")
    const decisive = await ask('GET', '/users/me', { token: `${textOf({ ...header, alg: 'none' }, { ...claims, sub: id })}.` })
    const succeeded = decisive.status === 200 && decisive.body.username === 'admin'
    return { succeeded, decisive, evidence: succeeded ? 'The service greets the admin' : 'A token without a signature is none' }
  },
} satisfies Attack
