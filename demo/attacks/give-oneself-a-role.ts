import type { Attack } from '../lab/attack.js'

export default {
  title: 'Give oneself a role, as admins give them',
  risk: 'API5',
  cwe: 862,
  concern: 'access',
  story: 'Roles are given on a page for admins. Mallory, who is nobody, sends the request that this page sends, for herself.',
  defence: 'The route names who may call it: the role admin, who has just signed in.',
  refusal: { status: 403, code: 'FST_BASTION_ACCESS_FORBIDDEN' },
  async run ({ step, must, signIn, person }) {
    const { id, username, password, ask } = await person()
    step('Mallory gives herself the role of moderators')
    const decisive = await ask('PATCH', `/users/${id}/role`, { json: { role: 'moderator' } })
    step('She signs in, and lists all users, as moderators may')
    const mallory = await signIn(username, password)
    const { body: { role } } = await must(mallory.ask('GET', '/users/me'), 200)
    const { status, body } = await mallory.ask('GET', '/api/v2/users')
    const succeeded = role === 'moderator' && status === 200
    return { succeeded, decisive, evidence: succeeded ? `She is ${role}, and reads a list of ${body.items.length} users` : `Her role is ${role}` }
  },
} satisfies Attack
