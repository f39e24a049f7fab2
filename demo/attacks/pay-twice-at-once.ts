import type { Attack } from '../lab/attack.js'
import { customer } from '../lab/customer.js'

const TIMES = 5

export default {
  title: 'Pay one order several times at once, for the bonus of each',
  risk: 'API6',
  cwe: 362,
  concern: 'sql',
  story: 'An order can be paid once. Between looking whether it is paid and writing that it is, other payments look too.',
  defence: 'The order is locked in a transaction until it is paid: payments come one after another, and the second finds it paid.',
  refusal: { status: 409, code: 'FST_PORTAL_ALREADY_PAID' },
  async run (target) {
    const { buyer, order } = await customer(target)
    target.step(`The buyer pays ${TIMES} times at once`)
    const json = { orderId: String(order.id), paymentToken: 'tok_visa', amount: order.total, currency: order.currency }
    const paid = await Promise.all(Array.from({ length: TIMES }, () => buyer.ask('POST', '/payments', { json })))
    const taken = paid.filter(({ status }) => status === 201)
    if (taken.length === 0) throw new Error(`no payment was taken: ${paid[0]!.status} ${paid[0]!.text.slice(0, 200)}`)
    const succeeded = taken.length > 1
    return { succeeded, decisive: succeeded ? taken[1]! : paid.find(({ status }) => status !== 201)!, evidence: `${taken.length} of ${TIMES} payments of one order were taken` }
  },
} satisfies Attack
