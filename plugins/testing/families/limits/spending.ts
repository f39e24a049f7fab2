/** A budget is spent: one request after another, the last of them at once. */
import { setTimeout } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import { budgetOf, subjectOf, type Spender } from '../../budgets.js'
import type { Exchange } from '../../campaign.js'
import { NOBODY_PASSES } from '../../ledger.js'
import { askAs, meter, tellsWhen, type Attack } from './attack.js'
import { tryOthers, tryVariants } from './sharing.js'

/** Requests that are sent at once: half of them are within the budget. */
const AT_ONCE = 20
/** Milliseconds in which larger windows are reached, or nothing is proven of them; and after which one asks again. */
const PATIENCE = 5000
const WAIT = 50

/**
 * As often as the budget says, and once more. Where nothing is forgotten between two tries, what was sent at once could not be told from a larger budget: there it is
 * one after another.
 */
export async function trySpending (given: Attack): Promise<void> {
  const { campaign, spender } = given
  const isForgotten = (campaign.app as Partial<FastifyInstance> | null)?.limits !== undefined || (spender.as === null && campaign.target.hasAddresses)
  const again = (attack: Attack) => ({ ...attack, ...attack.spender.as === null && { spender: { ...attack.spender, address: campaign.freshAddress() } } })
  const first = await spendOrWait(given, isForgotten ? AT_ONCE : 0)
  if (first.isSpentBefore) return tellSpent(given)
  if (first.isHeld) return tryLater(again(given))
  // What is not forgotten all the same says nothing of another try.
  const tryAgain = async (known: Spent, atOnce: number) => {
    const next = await spend(again(given), atOnce)
    return next.isSpentBefore ? known : next
  }
  // Which clock goes by the boundary of a window is luck: of two tries one is inside.
  const second = await tryAgain(first, 0)
  const last = second === first || (second.isHeld && !isForgotten) ? second : await tryAgain(second, second.isHeld ? AT_ONCE : 0)
  if (last.isHeld) return
  if (campaign.surface.isSuite) return tell(given, last)
  // Elsewhere a limit may come after the guard and the parser, and count what is valid alone.
  const valid = await validOf(again(given))
  if (typeof valid === 'string') return campaign.unproven(given.route, 'limits.exceeded', valid)
  const spent = await spendOrWait(valid, 0)
  if (spent.isSpentBefore) return tellSpent(given)
  if (!spent.isHeld) return tell(given, last)
  await tryLater(again(valid))
}

/** What somebody has spent before fills up in a while, where its window is short. */
async function spendOrWait (attack: Attack, atOnce: number): Promise<Spent> {
  const first = await spend(attack, atOnce)
  if (!first.isSpentBefore || attack.budget.ms > PATIENCE) return first
  await setTimeout(attack.budget.ms)
  return spend(attack, atOnce)
}

function tellSpent ({ campaign, route }: Attack): void {
  campaign.unproven(route, 'limits.exceeded', 'the very first request of a budget was answered 429, so that nothing is known of how much it is: give more of it, or reset it')
}

/** A request that is let in, or why there is none. */
async function validOf (attack: Attack): Promise<Attack | string> {
  const { campaign, route, spender } = attack
  const as = spender.as ?? (await campaign.passing(route))[0]
  if (as === undefined) return NOBODY_PASSES
  const shot = await campaign.ofOwn(route, as)
  if (typeof shot === 'string') return shot
  const { path = attack.path, body, type } = shot
  return { ...attack, path, content: { ...body !== undefined && { body, type } }, spender: { ...spender, as, principal: as === null ? null : (await campaign.callers.get(as)).principal } }
}

/** Windows behind the smallest one, as far as one gets there in a while: whoever waits as long as they are told spends them, too. */
async function tryLater (attack: Attack): Promise<void> {
  const { campaign, route, budget: { allowed: smallest, ms: pause, later }, spender } = attack
  for (const { text, allowed, ms } of later) {
    if (Math.ceil(allowed / smallest) * pause > PATIENCE || ms <= PATIENCE) {
      campaign.unproven(route, 'limits.exceeded', `${text} is not reached in ${PATIENCE / 1000} s`)
      continue
    }
    await campaign.giveBack(spender.address)
    const end = performance.now() + PATIENCE
    let passed = 0
    let exchange: Exchange | null = null
    while (passed <= allowed && performance.now() < end) {
      exchange = await askAs(attack, spender)
      if (!isRefused(exchange)) passed += 1
      else if (passed === allowed) break
      else await setTimeout(Math.max(WAIT, pause / 10))
    }
    if (passed < allowed) campaign.unproven(route, 'limits.exceeded', `${text} was not reached in ${PATIENCE / 1000} s`)
    else if (exchange !== null) campaign.check('limits.exceeded', exchange, passed === allowed, `429 after ${allowed} requests (${text})`, `${passed} passed`, text)
  }
}

function tell ({ campaign, budget: { allowed, windows } }: Attack, { isRace, exchange, passed }: Spent): void {
  if (isRace) campaign.check('limits.race', exchange, false, `at most ${allowed} (${windows.join(', ')})`, `${passed} passed, the last ${AT_ONCE} at once`)
  else campaign.check('limits.exceeded', exchange, false, `429 after ${allowed} requests (${windows.join(', ')})`, `${passed} passed`)
}

interface Spent {
  isHeld: boolean
  isRace: boolean
  passed: number
  exchange: Exchange
  /** Nothing was left of it. */
  isSpentBefore?: true
}

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
  campaign.check('limits.retry', exchange!, tellsWhen(exchange!), 'Retry-After in whole seconds', `Retry-After: ${String(exchange!.headers['retry-after'])}`)
  if (passed === 0) return { isHeld: false, isRace: false, passed, exchange: exchange!, isSpentBefore: true }
  campaign.check('limits.exceeded', exchange!, true, '')
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
