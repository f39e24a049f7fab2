/**
 * A card is written into the log and the table (CWE-312; API8), an amount may be below zero (CWE-1284; API6), and between looking at an order and paying it another payment fits
 * (CWE-362; API6). `cards` refuses numbers of cards, `validation` amounts that are none, and a transaction of `sql` holds the order.
 */
import { setTimeout as pause } from 'node:timers/promises'
import type { Twin } from '../app.js'

interface Body { orderId: string, amount: number, currency: string, paymentToken?: string, cardNumber?: string }
interface Order { id: number, user_id: number, total: number, currency: string, status: string }

/** Of what was paid. */
const BONUS = 0.01

export default function paymentsAsTold ({ app, db, userOf }: Twin): void {
  app.post<{ Body: Body }>('/payments', async (request, reply) => {
    const user = await userOf(request)
    const { orderId, amount, currency, cardNumber = null } = request.body
    request.log.info({ payment: request.body }, 'a payment')
    const { rows: [order] } = await db.query<Order>('select * from orders where id = $1 and user_id = $2', [Number(orderId), user.id])
    if (order === undefined) return reply.code(404).send({ error: 'No such order' })
    if (order.status === 'paid') return reply.code(409).send({ error: 'Paid already' })
    if (amount > order.total || currency !== order.currency) return reply.code(409).send({ error: 'Not the total' })
    const status = await charge(amount)
    const { rows: [payment] } = await db.query('insert into payments (order_id, user_id, amount, currency, card, status) values ($1, $2, $3, $4, $5, $6) returning *', [order.id, user.id, amount, currency, cardNumber, status])
    if (amount === order.total) {
      await db.query("update orders set status = 'paid' where id = $1", [order.id])
      await db.query('update users set balance = balance + $2 where id = $1', [user.id, Math.round(amount * BONUS)])
    }
    return reply.code(201).send(payment)
  })
}

/** What the provider of payments takes for its answer. */
async function charge (amount: number): Promise<string> {
  await pause(50)
  return amount < 0 ? 'refunded' : 'succeeded'
}
