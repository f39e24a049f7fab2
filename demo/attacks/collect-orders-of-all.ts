import type { Attack } from '../lab/attack.js'

export default {
  title: "Collect everybody's orders by the ids in public posts",
  risk: 'API1',
  cwe: 639,
  concern: 'access',
  story: 'Posts say who wrote them. Mallory takes these ids, one after another, and asks for the orders of each.',
  defence: 'The orders of a user are a resource whose owner is that user: whoever asks for those of others is refused.',
  refusal: { status: 403, code: 'FST_BASTION_ACCESS_FORBIDDEN' },
  async run ({ step, must, ask, person }) {
    const mallory = await person()
    step('Mallory reads who wrote the public posts')
    const { body: { items } } = await must(ask('GET', '/posts?limit=50'), 200)
    const authors = [...new Set<string>(items.map((post: Record<string, unknown>) => String(post.authorId ?? post.author_id)))].filter(id => id !== mallory.id).slice(0, 8)
    step('She asks for the orders of each')
    let orders = 0
    let decisive
    for (const id of authors) {
      decisive = await mallory.ask('GET', `/users/${id}/orders`)
      if (decisive.status === 200) orders += decisive.body.items.length
    }
    return { succeeded: orders > 0, decisive: decisive!, evidence: `${orders} orders of ${authors.length} people` }
  },
} satisfies Attack
