/** Tokens that are answered and mailed: each route that makes some is asked twice, one right after the other. */
import type { Campaign, Exchange } from '../../campaign.js'
import { isSafe } from '../../callers.js'
import { likeness, origin, shortness, type Known } from '../../reckoning.js'
import { answeredSecrets, mailedSecrets, type Secret } from '../../secrets.js'
import type { Route } from '../../surface.js'
import { addedTo, seenBy, textsOf } from '../../witnesses.js'

const ID = 'traces.predictable'
const ADDRESS = /[\w.+-]+@[\w.-]+\.\w+/g
/** Passwords and codes that people keep are no tokens. */
const TOKEN = /token|secret|key/i
const MAILED_MS = 5000

type Keep = (secret: Secret, exchange: Exchange) => void

export async function tryTokens (campaign: Campaign, keep: Keep): Promise<void> {
  for (const route of campaign.routes) {
    if (isSafe(route.method) || route.isGone || route.erases || campaign.isOff(route, ID)) continue
    const [as] = await campaign.passing(route)
    if (as !== undefined) await tryRoute(campaign, route, as, keep)
  }
}

async function tryRoute (campaign: Campaign, route: Route, as: string | null, keep: Keep): Promise<void> {
  const witnesses = campaign.options.witnesses ?? {}
  const isMailed = route.mails && witnesses.mailed !== undefined
  const mails = async () => isMailed ? (await textsOf(witnesses, 'mailed'))! : []
  const before = await mails()
  const asks: { exchange: Exchange, known: Known }[] = []
  for (let i = 0; i < 2; i += 1) {
    const shot = await campaign.ofOwn(route, as)
    if (typeof shot === 'string') return isMailed ? campaign.unproven(route, ID, shot) : undefined
    const from = Date.now()
    const exchange = await campaign.ask({ ...shot, isAllowed: true })
    asks.push({ exchange, known: { facts: factsOf(exchange), from, to: Date.now() } })
    // What makes no token now makes none later.
    if (exchange.status >= 400 || (!isMailed && tokensOf(exchange).length === 0)) return isMailed ? campaign.unproven(route, ID, `a valid request was answered ${exchange.status}: give its body or values`) : undefined
  }
  const [first, second] = asks as [typeof asks[0], typeof asks[0]]
  judge(campaign, first.exchange, first.known, tokensOf(first.exchange), tokensOf(second.exchange))
  if (!isMailed) return

  // Those who send them do so beside the answer.
  const sent = await seenBy(async () => addedTo(before, await mails()), seen => seen.length >= 2, MAILED_MS)
  if (sent.length === 0) return campaign.unproven(route, ID, 'it sent no mail: give a body that makes it send one')
  const known = { facts: [...first.known.facts, ...sent.flatMap(text => text.match(ADDRESS) ?? [])], from: first.known.from, to: Date.now() }
  const [one = [], other = []] = sent.map(mailedSecrets)
  judge(campaign, first.exchange, known, one, other)
  for (const secret of [...one, ...other]) keep(secret, first.exchange)
}

function judge (campaign: Campaign, exchange: Exchange, known: Known, tokens: readonly Secret[], others: readonly Secret[]): void {
  for (const { name, value } of tokens) {
    const other = others.find(one => one.name === name)?.value
    const way = origin(value, known) ?? shortness(value) ?? (other === undefined ? null : likeness(value, other))
    campaign.check(ID, exchange, way === null, `a token that nobody can reckon: ${name}`, `it is ${way}`, name)
  }
}

function tokensOf (exchange: Exchange): Secret[] {
  const sent = `${exchange.sent.body?.toString()} ${exchange.sent.path} ${JSON.stringify(exchange.sent.headers)}`
  return answeredSecrets(exchange).filter(({ name, value }) => TOKEN.test(name) && !sent.includes(value))
}

/** What whoever asks knows: what they sent, and who they are. */
function factsOf ({ sent: { body, path }, caller }: Exchange): string[] {
  const words = `${body?.toString() ?? ''} ${path}`.split(/[\s"{}[\],:?&=/]+/)
  return [...words, caller?.principal.id ?? '', ...body?.toString().match(ADDRESS) ?? []].filter(text => text.length > 1)
}
