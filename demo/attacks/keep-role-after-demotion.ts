import type { Attack } from '../lab/attack.js'

export default {
  title: 'Keep the rights of a role that was taken away',
  risk: 'API5',
  cwe: 863,
  concern: 'tokens',
  story: 'Mallory is a moderator and signed in when the admin makes her a user again. Her token still says moderator.',
  defence: 'Where a role changes all tokens of the user end, and the next ones say what is so.',
  refusal: { status: 401, code: 'FST_BASTION_TOKENS_INVALID' },
  async run ({ step, must, ask, signIn, person }) {
    const { id, username, password } = await person()
    const admin = await signIn('admin')
    step('The admin makes Mallory a moderator, she signs in, and she is one no more')
    await must(admin.ask('PATCH', `/users/${id}/role`, { json: { role: 'moderator' } }), 200)
    const mallory = await signIn(username, password)
    await must(ask('GET', '/api/v2/users', { token: mallory.token }), 200)
    await must(admin.ask('PATCH', `/users/${id}/role`, { json: { role: 'user' } }), 200)
    step('With her token she lists all users, as moderators may')
    const decisive = await ask('GET', '/api/v2/users', { token: mallory.token })
    const succeeded = decisive.status === 200 && decisive.body.items.length > 1
    return { succeeded, decisive, evidence: succeeded ? `A user reads a list of ${decisive.body.items.length} users` : 'The token ended with the role' }
  },
} satisfies Attack
