/** Somebody with an order that is not paid yet: orders are only those of the seeded accounts, so that each attack takes the next. */
import type { Person, Target } from './target.js'

export interface Order { id: string | number, total: number, currency: string, status: string }

const BUYERS = ['gus', 'max', 'mona', 'bob', 'alice', 'nora', 'dora', 'admin']

/** @returns where all orders are paid, one that is */
export async function customer ({ signIn }: Target): Promise<{ buyer: Person, order: Order }> {
  let found
  for (const username of BUYERS) {
    const buyer = await signIn(username)
    const { body: { items } } = await buyer.ask('GET', `/users/${buyer.id}/orders`)
    const order = (items as Order[]).find(({ status }) => status === 'open')
    found = { buyer, order: order ?? (items as Order[])[0]! }
    if (order !== undefined) break
  }
  return found!
}
