import type { Attack } from '../lab/attack.js'
import { customer } from '../lab/customer.js'

export default {
  title: 'Pay less than nothing, and be paid',
  risk: 'API6',
  cwe: 1284,
  concern: 'validation',
  story: 'The amount is sent along. Below zero it goes the other way: onto the card of the one who pays.',
  defence: 'An amount is a whole number from one upwards; and what is paid is what the order says, not what is sent.',
  refusal: { status: 400, code: 'FST_BASTION_VALIDATION_REFUSED' },
  async run (target) {
    const { buyer, order } = await customer(target)
    target.step('The buyer pays')
    const decisive = await buyer.ask('POST', '/payments', { json: { orderId: String(order.id), paymentToken: 'tok_visa', amount: -5000, currency: order.currency } })
    const succeeded = decisive.status === 201 && decisive.body.status === 'refunded'
    return { succeeded, decisive, evidence: succeeded ? `${decisive.body.status}: ${-decisive.body.amount} cents onto the card` : 'Nothing is paid' }
  },
} satisfies Attack
