/** A budget is spent: one request after another, the last of them at once. */
import type { FastifyInstance } from 'fastify'
import { budgetOf, subjectOf, type Spender } from '../../budgets.js'
import type { Exchange } from '../../campaign.js'
import { askAs, meter, type Attack } from './attack.js'
import { tryOthers, tryVariants } from './sharing.js'

/** Requests that are sent at once: half of them are within the budget. */
const AT_ONCE = 20

/**
 * As often as the budget says, and once more. Where nothing is forgotten between two tries, what was sent at once could not be told from a larger budget: there it is
 * one after another.
 */
export async function trySpending (attack: Attack): Promise<void> {
  const { campaign, spender } = attack
  const isForgotten = (campaign.app as Partial<FastifyInstance> | null)?.limits !== undefined || (spender.as === null && campaign.target.hasAddresses)
  const again = () => ({ ...attack, ...spender.as === null && { spender: { ...spender, address: campaign.freshAddress() } } })
  const first = await spend(attack, isForgotten ? AT_ONCE : 0)
  if (first.isHeld) return
  const second = await spend(again(), 0)
  // Which clock goes by the boundary of a window is luck: of two tries one is inside. What is not forgotten all the same is not tried again.
  const last = second.passed === 0 ? first : second.isHeld && isForgotten ? await spend(again(), AT_ONCE) : second.isHeld ? second : await spend(again(), 0)
  if (!last.isHeld) tell(attack, last)
}

function tell ({ campaign, budget: { allowed, windows } }: Attack, { isRace, exchange, passed }: Spent): void {
  if (isRace) campaign.check('limits.race', exchange, false, `at most ${allowed} (${windows.join(', ')})`, `${passed} passed, the last ${AT_ONCE} at once`)
  else campaign.check('limits.exceeded', exchange, false, `429 after ${allowed} requests (${windows.join(', ')})`, `${passed} passed`)
}

interface Spent { isHeld: boolean, isRace: boolean, passed: number, exchange: Exchange }

/** What holds is told; what does not is tried again before. */
async function spend (attack: Attack, atOnce: number): Promise<Spent> {
  const { campaign, route, budget: { allowed }, spender } = attack
  await campaign.giveBack(spender.address)
  const others = await othersOf(attack)
  const { most, isTooSlow } = meter(attack)
  const ask = () => askAs(attack, spender)
  let passed = 0
  let exchange: Exchange | null = null
  for (; !isRefused(exchange) && passed <= (atOnce === 0 ? most() : allowed - atOnce / 2 - 1); passed += isRefused(exchange) ? 0 : 1) {
    exchange = await ask()
    // Who asks more slowly than the budget fills is never refused.
    if (!isTooSlow()) continue
    campaign.unproven(route, 'limits.exceeded', 'requests take so long here that the budget is never spent')
    return { isHeld: true, isRace: false, passed, exchange }
  }
  if (atOnce > 0 && !isRefused(exchange)) {
    const asked = await Promise.all(Array.from({ length: atOnce }, ask))
    const letThrough = asked.filter(one => !isRefused(one))
    passed += letThrough.length
    exchange = letThrough.at(-1) ?? asked.at(-1)!
    if (passed > most()) return { isHeld: false, isRace: true, passed, exchange }
    campaign.check('limits.race', exchange, true, '')
    exchange = await ask()
  }
  if (!isRefused(exchange)) return { isHeld: false, isRace: false, passed, exchange: exchange! }
  campaign.check('limits.exceeded', exchange!, true, '')
  campaign.check('limits.retry', exchange!, /^[1-9]\d*$/.test(String(exchange!.headers['retry-after'])), 'Retry-After in whole seconds', `Retry-After: ${String(exchange!.headers['retry-after'])}`)
  if (passed === 0) return { isHeld: true, isRace: false, passed, exchange: exchange! }
  await tryVariants(attack)
  await tryOthers(attack, others)
  return { isHeld: true, isRace: false, passed, exchange: exchange! }
}

/** Who else asks, from there and from elsewhere, and is let through before the budget is spent. */
async function othersOf (attack: Attack): Promise<Spender[]> {
  const { campaign, route, limit, spender } = attack
  const elsewhere = campaign.target.hasAddresses ? campaign.freshAddress() : spender.address
  const callers = (await campaign.callers.all()).filter(caller => campaign.judge.verdictOn(route, caller).passes === true)
  const all: Spender[] = [{ as: null, principal: null, address: elsewhere }, { as: null, principal: null, address: spender.address }, ...callers.map(({ name: as, principal }) => ({ as, principal, address: spender.address }))]
  const own = subjectOf(limit, spender)
  const seen = new Set([own])
  const found: Spender[] = []
  for (const one of all) {
    const subject = subjectOf(limit, one)
    const { allowed = Infinity } = budgetOf(limit, one.principal) ?? {}
    if (seen.has(subject) || allowed < 2 || found.length === 2) continue
    seen.add(subject)
    await campaign.giveBack(one.address)
    if ((await askAs(attack, one)).status !== 429) found.push(one)
  }
  return found
}

function isRefused (exchange: Exchange | null): boolean {
  return exchange?.status === 429
}
