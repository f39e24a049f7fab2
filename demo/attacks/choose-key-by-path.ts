import { forged, partsOf } from '../lab/forge.js'
import type { Attack } from '../lab/attack.js'

export default {
  title: 'Sign with an empty file that the token names as key',
  risk: 'API2',
  cwe: 22,
  concern: 'tokens',
  story: 'The header names its key by `kid`. Mallory names a file of which she knows what is in it: /dev/null, which is empty, and signs with nothing.',
  defence: 'A `kid` finds a key among those that were loaded at boot, and opens no file and no table.',
  refusal: { status: 401, code: 'FST_BASTION_TOKENS_INVALID' },
  async run ({ step, ask, signIn, person }) {
    const mallory = await person()
    const { header, claims } = partsOf(mallory.token)
    const { id } = await signIn('admin')
    step("The admin's token, signed with the content of /dev/null")
    const decisive = await ask('GET', '/users/me', { token: forged({ ...header, alg: 'HS256', kid: '../../../../../../../../dev/null' }, { ...claims, sub: id }, '') })
    const succeeded = decisive.status === 200 && decisive.body.username === 'admin'
    return { succeeded, decisive, evidence: succeeded ? 'The service opens the file, and greets the admin' : 'There is no key of this name' }
  },
} satisfies Attack
