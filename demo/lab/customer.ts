/** Somebody with an order that is not paid yet: orders are only those of the seeded accounts, so that each attack takes the next. */
import { Spent } from './attack.js'
import type { Person, Target } from './target.js'

export interface Order { id: string | number, total: number, currency: string, status: string }

const BUYERS = ['gus', 'max', 'mona', 'bob', 'alice', 'nora', 'dora', 'admin']

/** @throws Spent where all orders are paid */
export async function customer ({ signIn, must }: Target): Promise<{ buyer: Person, order: Order }> {
  for (const username of BUYERS) {
    const buyer = await signIn(username)
    const { body: { items } } = await must(buyer.ask('GET', `/users/${buyer.id}/orders`), 200)
    const order = (items as Order[]).find(({ status }) => status === 'open')
    if (order !== undefined) return { buyer, order }
  }
  throw new Spent('all orders are paid')
}
