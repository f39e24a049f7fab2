import type { Attack } from '../lab/attack.js'

export default {
  title: 'Write a document that was shared for reading',
  risk: 'API1',
  cwe: 863,
  concern: 'access',
  story: 'Anna lets Mallory read a document. Mallory writes it.',
  defence: 'A share is for actions, and the action of the route is compared with them.',
  refusal: { status: 403, code: 'FST_BASTION_ACCESS_FORBIDDEN' },
  async run ({ step, must, person }) {
    const [anna, mallory] = [await person(), await person()]
    step('Anna shares a document with Mallory, for reading')
    const { body: { id } } = await must(anna.ask('POST', '/documents', { json: { title: 'Price list', content: 'Lamp: 19.00' } }), 201)
    await must(anna.ask('POST', `/documents/${id}/shares`, { json: { userId: mallory.id, actions: ['read'] } }), 201)
    await must(mallory.ask('GET', `/documents/${id}`), 200)
    step('Mallory writes it')
    const decisive = await mallory.ask('PUT', `/documents/${id}`, { json: { title: 'Price list', content: 'Lamp: 0.19' } })
    const { body: { content } } = await must(anna.ask('GET', `/documents/${id}`), 200)
    return { succeeded: content === 'Lamp: 0.19', decisive, evidence: `Anna reads: ${content}` }
  },
} satisfies Attack
