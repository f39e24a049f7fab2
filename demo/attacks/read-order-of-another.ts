import type { Attack } from '../lab/attack.js'

export default {
  title: 'Read the order of another by its id',
  risk: 'API1',
  cwe: 639,
  concern: 'access',
  story: 'Bob is signed in, and puts the id of an order of Alice into the path of his own.',
  defence: 'The route names its resource; the order is loaded and its owner compared before the handler runs. To strangers it does not exist.',
  refusal: { status: 404 },
  async run ({ step, must, signIn }) {
    step('Alice looks at her orders')
    const alice = await signIn('alice')
    const { body: { items: [order] } } = await must(alice.ask('GET', `/users/${alice.id}/orders`), 200)
    step('Bob asks for the first of them')
    const bob = await signIn('bob')
    const decisive = await bob.ask('GET', `/orders/${order.id}`)
    const succeeded = decisive.status === 200 && decisive.body.item === order.item
    return { succeeded, decisive, evidence: succeeded ? `Bob reads: ${order.item}, ${order.total}` : 'Bob is told that there is no such order' }
  },
} satisfies Attack
