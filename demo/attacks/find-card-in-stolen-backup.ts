import { randomInt } from 'node:crypto'
import type { Attack } from '../lab/attack.js'
import { customer } from '../lab/customer.js'

export default {
  title: 'Find card numbers in a stolen backup',
  risk: 'API8',
  cwe: 312,
  concern: 'cards',
  story: 'Somebody pays, and an old page sends the card along. Later Mallory has a backup in her hands.',
  defence: 'A card number anywhere in the body is refused before anything keeps it, in no log either. Payments are made by the token of a provider.',
  refusal: { status: 400, code: 'FST_BASTION_CARDS_REFUSED' },
  async run (target) {
    const { buyer, order } = await customer(target)
    target.step('The buyer pays, with the card itself')
    const cardNumber = withCheckDigit(`411111${String(randomInt(1e9)).padStart(9, '0')}`)
    const json = { orderId: String(order.id), paymentToken: 'tok_visa', amount: 1, currency: order.currency, cardNumber }
    const decisive = await buyer.ask('POST', '/payments', { json })
    target.step('Mallory looks through the log and the files')
    const succeeded = (await target.stolen(new RegExp(cardNumber))).length > 0
    return { succeeded, decisive, evidence: succeeded ? `The backup holds ${cardNumber}` : 'The backup does not hold the card' }
  },
} satisfies Attack

/** By Luhn's formula, as cards have it. */
function withCheckDigit (digits: string): string {
  const sum = [...digits].reverse().reduce((total, digit, i) => total + (i % 2 === 0 ? [0, 2, 4, 6, 8, 1, 3, 5, 7, 9][Number(digit)]! : Number(digit)), 0)
  return `${digits}${(10 - sum % 10) % 10}`
}
