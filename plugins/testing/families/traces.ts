/**
 * What is left behind where no answer shows it: what is stored, logged, recorded and mailed, as far as the service lets the kit look. Secrets are gathered from every answer of
 * every attack; what is planted, and by whom, this family sends itself.
 */
import type { Campaign, Exchange, Family } from '../campaign.js'
import { isSafe } from '../callers.js'
import { codingsOf } from '../readings.js'
import { answeredSecrets, credentialsOf, sentPasswords, sentTexts, type Secret } from '../secrets.js'
import { textsOf } from '../witnesses.js'
import { tryErasure } from './traces/erasure.js'
import { tryLines } from './traces/lines.js'
import { tryTokens } from './traces/tokens.js'
import { tryTrail } from './traces/trail.js'

/** Of one field of one route, the latest: others may have taken the place of those before. */
const ENOUGH = 2

/** By their value. */
type Seen = Map<string, { secret: Secret, exchange: Exchange }>

interface Gathered {
  /** What an answer or a mail gave, and what was sent as a password; by the field of a route. */
  secrets: Map<string, Seen>
  /** By which callers are known. */
  credentials: Map<string, Seen>
  /** Texts that were sent as no secret. */
  told: Set<string>
}

const gathered = new WeakMap<Campaign, Gathered>()

export const traces: Family = {
  name: 'traces',
  async lead (campaign) {
    const { witnesses = {} } = campaign.options
    if (witnesses.logged !== undefined) await tryLines(campaign)
    if (witnesses.recorded !== undefined) await tryTrail(campaign)
    await tryTokens(campaign, (secret, exchange) => { keep(campaign, 'secrets', secret, exchange) })
    await lookAt(campaign, 'stored')
    if (witnesses.stored !== undefined) await tryErasure(campaign)
    await lookAt(campaign, 'logged')
    campaign.notApplicable(['traces.stored', 'traces.erased'], witnesses.stored === undefined ? 'witnesses says nothing of what is stored' : 'no route says that it erases anybody, or no secret was seen')
    campaign.notApplicable(['traces.lines', 'traces.logged'], witnesses.logged === undefined ? 'witnesses says nothing of what is logged' : 'nothing was sent that could be logged')
    campaign.notApplicable('traces.unrecorded', witnesses.recorded === undefined ? 'witnesses says nothing of what is recorded' : 'no route says that it is recorded')
    campaign.notApplicable('traces.predictable', 'no token was answered or mailed')
  },
  observe (campaign, exchange) {
    const { told } = gatheredBy(campaign)
    for (const text of sentTexts(exchange)) told.add(text)
    for (const secret of credentialsOf(exchange)) keep(campaign, 'credentials', secret, exchange)
    if (exchange.status >= 400) return
    for (const secret of [...answeredSecrets(exchange), ...isSafe(exchange.sent.method) ? [] : sentPasswords(exchange)]) keep(campaign, 'secrets', secret, exchange)
  },
}

function gatheredBy (campaign: Campaign): Gathered {
  const known = gathered.get(campaign) ?? { secrets: new Map(), credentials: new Map(), told: new Set<string>() }
  gathered.set(campaign, known)
  return known
}

function keep (campaign: Campaign, where: 'secrets' | 'credentials', secret: Secret, exchange: Exchange): void {
  const { [where]: known } = gatheredBy(campaign)
  const { route, as } = exchange.shot
  const key = `${where === 'secrets' ? route?.name : as} ${secret.name}`
  const seen: Seen = known.get(key) ?? new Map()
  known.set(key, seen)
  seen.set(secret.value, { secret, exchange })
  if (seen.size > ENOUGH) seen.delete(seen.keys().next().value!)
}

/** Whether a secret stands there, as it is or written otherwise. */
async function lookAt (campaign: Campaign, where: 'stored' | 'logged'): Promise<void> {
  const texts = await textsOf(campaign.options.witnesses ?? {}, where)
  if (texts === null) return
  const all = texts.join('\n')
  const { secrets, credentials, told } = gatheredBy(campaign)
  const looked: Seen = new Map([...secrets.values(), ...where === 'logged' ? credentials.values() : []].flatMap(seen => [...seen]).reverse())
  for (const [value, { secret, exchange }] of looked) {
    if (told.has(value)) continue
    const isThere = formsOf(value, where).some(form => all.includes(form))
    campaign.check(`traces.${where}`, exchange, !isThere, `its ${secret.name} is ${where} nowhere`, `${JSON.stringify(secret.name)} is ${where} as it is`, secret.name)
  }
}

function formsOf (value: string, where: 'stored' | 'logged'): string[] {
  const written = JSON.stringify(value).slice(1, -1)
  return [value, written, ...where === 'stored' ? codingsOf(value) : []]
}
