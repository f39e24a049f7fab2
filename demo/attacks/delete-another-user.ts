import type { Attack } from '../lab/attack.js'

export default {
  title: 'Delete the account of another',
  risk: 'API5',
  cwe: 862,
  concern: 'access',
  story: 'Mallory has a quarrel with Anna, and deletes her account.',
  defence: 'The route says that it is for admins who have just confirmed who they are.',
  refusal: { status: 403, code: 'FST_BASTION_ACCESS_FORBIDDEN' },
  async run ({ step, ask, person }) {
    const [anna, mallory] = [await person(), await person()]
    step("Mallory deletes Anna's account")
    const decisive = await mallory.ask('DELETE', `/users/${anna.id}`)
    step('Anna signs in')
    const { status } = await ask('POST', '/auth/login', { json: { username: anna.username, password: anna.password } })
    return { succeeded: status !== 200, decisive, evidence: status === 200 ? 'Anna signs in as before' : `Anna cannot sign in any more: ${status}` }
  },
} satisfies Attack
