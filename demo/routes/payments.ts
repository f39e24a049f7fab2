/** Payments: by a token of the payment provider. A card number never comes here. */
import { Type, type Static } from '@sinclair/typebox'
import { createError } from '@fastify/error'
import { NotFound } from '../../plugins/errors.js'
import { principalOf } from '../../plugins/identity.js'
import { Amount, closed, Currency, Id, PaymentToken } from '../../schemas/index.js'
import { newId } from '../accounts.js'
import type { Portal } from '../app.js'
import { build, first, rows, type PaymentRow } from '../data/tables.js'
import { charge } from '../processor.js'

const NotTheTotal = createError('FST_PORTAL_PAYMENT_MISMATCH', "Amount and currency are not those of the order's total", 409)
const AlreadyPaid = createError('FST_PORTAL_ALREADY_PAID', 'This order is paid already', 409)

const Payment = Type.Object({ id: Id, status: Type.String(), lastFour: Type.String({ pattern: '^\\d{4}$' }) }, { additionalProperties: false })

export function paymentRoutes ({ app, sql }: Portal): void {
  app.post('/payments', {
    schema: { body: closed({ orderId: Id, paymentToken: PaymentToken, amount: Amount, currency: Currency }), response: { 201: Payment } },
    config: { access: 'user', cards: 'strict', audit: 'data_modification' },
  }, async (request, reply) => {
    const { orderId, paymentToken, amount, currency } = request.body
    const { userId } = principalOf(request)
    const payment = await sql.transaction(async transaction => {
      // Locked until it is paid or not: two payments at once are one after the other.
      const order = await first(transaction, build.selectFrom('orders').selectAll().where('id', '=', orderId).where('user_id', '=', userId).forUpdate())
      if (order === null) throw new NotFound()
      if (order.total !== amount || order.currency !== currency) throw new NotTheTotal()
      if (order.status !== 'open') throw new AlreadyPaid()
      const { status, lastFour } = await charge(paymentToken, amount, currency)
      await rows(transaction, build.updateTable('orders').set({ status: 'paid' }).where('id', '=', orderId))
      return first(transaction, build.insertInto('payments').values({ id: newId(), order_id: orderId, amount, currency, status, last_four: lastFour }).returningAll())
    })
    reply.code(201)
    return paymentShape(payment!)
  })
}

function paymentShape ({ id, status, last_four: lastFour }: PaymentRow): Static<typeof Payment> {
  return { id, status, lastFour }
}
