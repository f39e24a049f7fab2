/** Of a budget that is spent: who is the same has no other one, and who is somebody else has. */
import { subjectOf, type Spender } from '../../budgets.js'
import type { Exchange, Shot } from '../../campaign.js'
import { askAs, type Attack } from './attack.js'

/** Requests that show a budget of its own. */
const SEVERAL = 4
const FORWARDED = { 'x-forwarded-for': '203.0.113.77', 'x-real-ip': '203.0.113.77', forwarded: 'for=203.0.113.77', 'cf-connecting-ip': '203.0.113.77', 'true-client-ip': '203.0.113.77' }

export async function tryVariants (attack: Attack): Promise<void> {
  const { campaign, route, limit, path, spender } = attack
  if (campaign.isOff(route, 'limits.variant')) return
  const [plain = '', query] = path.split('?')
  const search = query === undefined ? '' : `?${query}`
  const letter = plain.search(/[a-z]/)
  const encoded = letter === -1 ? plain : `${plain.slice(0, letter)}%${plain.charCodeAt(letter).toString(16)}${plain.slice(letter + 1)}`
  const variants: [what: string, shot: Partial<Shot>, who?: Spender][] = [
    ...route.hasHead ? [['HEAD', { method: 'HEAD' }] as [string, Partial<Shot>]] : [],
    ['another case', { path: `${plain.toUpperCase()}${search}` }],
    ['a slash at its end', { path: `${plain}/${search}` }],
    ['an encoded letter', { path: `${encoded}${search}` }],
    ['another query', { path: `${plain}?${query === undefined ? '' : `${query}&`}x=1` }],
    ['a forwarded address', { headers: FORWARDED }],
    ['another agent', { headers: { 'user-agent': 'another/1' } }],
    ...spender.as === null ? [['a credential that is none', { headers: { authorization: 'Bearer garbage' } }] as [string, Partial<Shot>]] : [],
    ...(await kinOf(attack)).map(([what, who]): [string, Partial<Shot>, Spender] => [what, {}, who]),
  ]
  for (const [what, shot, who = spender] of variants) await tryVariant(attack, what, shot, who)
  // Last: whoever is made anew may be somebody else.
  if (spender.as === null || !campaign.callers.renew(spender.as)) return
  const renewed = { ...spender, principal: (await campaign.callers.get(spender.as)).principal }
  if (subjectOf(limit, renewed) === subjectOf(limit, spender)) await tryVariant(attack, 'another credential', {}, renewed)
}

async function tryVariant (attack: Attack, what: string, shot: Partial<Shot>, who: Spender): Promise<void> {
  const { campaign, route, content, budget: { allowed, ms } } = attack
  const started = performance.now()
  let exchange = await askAs(attack, who, shot)
  // What fills up meanwhile lets one through, and a budget of its own several.
  for (let i = 1; i < Math.min(SEVERAL, allowed) && passes(exchange); i++) exchange = await askAs(attack, who, shot)
  // Where there is no route, a body that cannot be read may be refused before that is said.
  if (shot.path !== undefined && content.body !== undefined && passes(exchange) && !passes(await askAs(attack, who, { ...shot, body: '{}' }))) return
  const filled = allowed * (performance.now() - started) / ms
  if (passes(exchange) && filled > 1) campaign.unproven(route, 'limits.variant', 'requests take so long here that the budget fills meanwhile')
  else campaign.check('limits.variant', exchange, !passes(exchange), `429, as without ${what}`, undefined, what)
}

/** The same by what the budget goes by: from elsewhere, and with another credential. */
async function kinOf ({ campaign, limit, spender }: Attack): Promise<[what: string, who: Spender][]> {
  const own = subjectOf(limit, spender)
  const callers = await campaign.callers.all()
  const kin = ({ as, principal, address }: Spender) => subjectOf(limit, { as, principal, address }) === own
  const elsewhere = campaign.target.hasAddresses ? [{ ...spender, address: campaign.freshAddress() }].filter(kin) : []
  const others = callers.filter(({ name }) => name !== spender.as).map(({ name: as, principal }) => ({ as, principal, address: spender.address })).filter(kin).slice(0, 1)
  return [...elsewhere.map((who): [string, Spender] => ['another address', who]), ...others.map((who): [string, Spender] => ['another credential', who])]
}

/** @param others who were let through before */
export async function tryOthers (attack: Attack, others: readonly Spender[]): Promise<void> {
  const { campaign, route, spender } = attack
  if (campaign.isOff(route, 'limits.shared')) return
  for (const who of others) {
    const exchange = await askAs(attack, who)
    const where = who.address === spender.address ? 'from there' : 'from elsewhere'
    campaign.check('limits.shared', exchange, exchange.status !== 429, `a budget of their own: ${who.as ?? 'nobody'}, ${where}`, '429, as what somebody else asked was counted')
  }
}

/** What no route takes has a budget of its own, and rightly. */
function passes ({ status }: Exchange): boolean {
  return status !== 429 && status !== 404 && status !== 405
}
