import type { Attack } from '../lab/attack.js'

export default {
  title: 'Go on after the account was switched off',
  risk: 'API2',
  cwe: 285,
  concern: 'tokens',
  story: 'Mallory is dismissed, and the admin switches her account off. She is signed in on her telephone.',
  defence: 'Tokens, sessions and keys end with their account, at once.',
  refusal: { status: 401, code: 'FST_BASTION_TOKENS_INVALID' },
  async run ({ step, must, signIn, person }) {
    const mallory = await person()
    const admin = await signIn('admin')
    step('The admin switches the account of Mallory off')
    await must(admin.ask('PATCH', `/users/${mallory.id}/active`, { json: { isActive: false } }), 204)
    step('She reads on')
    const decisive = await mallory.ask('GET', '/users/me')
    const succeeded = decisive.status === 200
    return { succeeded, decisive, evidence: succeeded ? 'Her token works as ever' : 'Her token ended with the account' }
  },
} satisfies Attack
