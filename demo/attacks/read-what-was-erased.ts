import type { Attack } from '../lab/attack.js'

export default {
  title: 'Read what somebody has erased',
  risk: 'API8',
  cwe: 459,
  concern: 'privacy',
  story: 'Anna has erased her account. Mallory looks whether it is so.',
  defence: 'Each source of data about a person says what becomes of it, and erasure goes through all of them.',
  refusal: { status: 404, code: 'FST_BASTION_ERRORS_NOT_FOUND' },
  async run ({ step, must, ask, person }) {
    const [anna, mallory] = [await person(), await person()]
    const { body: { id } } = await must(anna.ask('POST', '/posts', { json: { title: 'My address', content: '<p>I live at the old mill.</p>' } }), 201)
    await must(ask('GET', `/posts/${id}`), 200)
    step('Anna erases her account')
    await must(anna.ask('DELETE', '/users/me'), 204)
    step('Mallory looks for her')
    await mallory.ask('GET', `/users/${anna.id}`)
    const decisive = await ask('GET', `/posts/${id}`)
    const succeeded = decisive.status === 200
    return { succeeded, decisive, evidence: succeeded ? `She reads: ${decisive.body.content}` : 'There is nothing of Anna any more' }
  },
} satisfies Attack
