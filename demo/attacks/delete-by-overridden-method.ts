import type { Attack } from '../lab/attack.js'

export default {
  title: 'Delete a post by a POST that says that it is a DELETE',
  risk: 'API5',
  cwe: 650,
  concern: 'access',
  story: 'Deleting is for moderators. Mallory sends a POST whose header asks to take it for a DELETE.',
  defence: 'No header makes another method of a request, and what guards hangs on the route that runs.',
  refusal: { status: 404, code: 'FST_BASTION_ERRORS_NOT_FOUND' },
  async run ({ step, must, ask, person }) {
    const [anna, mallory] = [await person(), await person()]
    const { body: { id } } = await must(anna.ask('POST', '/posts', { json: { title: 'What I saw', content: '<p>I have seen it all.</p>' } }), 201)
    await must(ask('GET', `/posts/${id}`), 200)
    step('Mallory tries a DELETE')
    await must(mallory.ask('DELETE', `/posts/${id}`), 403)
    step('And a POST that says that it is one')
    const decisive = await mallory.ask('POST', `/posts/${id}`, { headers: { 'x-http-method-override': 'DELETE', 'x-method-override': 'DELETE' } })
    const { status } = await ask('GET', `/posts/${id}`)
    return { succeeded: status === 404, decisive, evidence: status === 404 ? "Anna's post is gone" : "Anna's post is there" }
  },
} satisfies Attack
