/**
 * Texts that take more time than their length is worth (CWE-1333): runs of one sign with one at the end that does not belong there, longer and longer up to what the schema allows.
 * Judged by the processor time of this process, never by the clock, so that a busy machine decides nothing; and told only where it comes again.
 */
import type { Campaign, Exchange, Family } from '../campaign.js'
import { propertiesOf, typesOf } from '../schemas.js'
import type { Schema } from '../../references.js'
import type { Route } from '../surface.js'
import { isPassword } from './texts.js'

const [LETTER, DIGIT, BLANK] = ['a', '1', ' ']
const BAD_END = '!'
/** None takes for ever where the one before took next to nothing: first for what grows by a factor with each sign, then for what grows by a power of the length. */
const LENGTHS = [16, 24, 36, 54, 216, 864, 3456]
/** What a body, and a query, may hold at most. */
const LONGEST = { body: 20_000, query: 4000 }
/** Milliseconds of the processor that a text may cost beyond a short one. */
const MOST_MS = 50
/** Milliseconds beyond a short one from which on a text is made longer by little, up to a length at which what grows by a factor has long been seen. */
const SOME_MS = 10
const LITTLE = 1.125
const SEEN = 54
/** Twice the length may cost so many times as much: what grows with the length costs two times, what grows with its square four. */
const MOST_GROWTH = 3
const REPEATED = 3

type Send = (text: string) => Promise<Exchange | null>

export const slowness: Family = {
  name: 'slowness',
  async lead (campaign) {
    if (campaign.app === null) return campaign.notApplicable('slowness.pattern', 'the service is in another process, whose time is not seen')
    const seen = new Set<string>()
    for (const route of campaign.routes) {
      const [as] = await campaign.passing(route)
      if (as === undefined || campaign.isOff(route, 'slowness.pattern')) continue
      for (const [field, part] of Object.entries(propertiesOf(route.querySchema))) await tryField(campaign, seen, field, part, LONGEST.query, inQuery(campaign, route, as, field))
      if (route.body?.type !== 'application/json') continue
      for (const [field, part] of Object.entries(propertiesOf(route.body.schema))) await tryField(campaign, seen, field, part, LONGEST.body, inBody(campaign, route, as, field, typesOf(part).includes('array')))
    }
    campaign.notApplicable('slowness.pattern', 'no route says what texts it takes')
  },
}

function inQuery (campaign: Campaign, route: Route, as: string | null, field: string): Send {
  return async text => {
    const shot = await campaign.ofOwn(route, as)
    if (typeof shot === 'string') return null
    const [path = '', search] = shot.path!.split('?')
    const query = new URLSearchParams(search)
    query.set(field, text)
    return campaign.ask({ ...shot, path: `${path}?${query}`, isAllowed: true })
  }
}

function inBody (campaign: Campaign, route: Route, as: string | null, field: string, isList: boolean): Send {
  return async text => {
    const shot = await campaign.ofOwn(route, as, body => ({ ...body as object, [field]: isList ? [text] : text }))
    return typeof shot === 'string' ? null : campaign.ask({ ...shot, isAllowed: true })
  }
}

/** @param seen schemas that were tried with every sign: elsewhere one is enough, for what a route does itself */
async function tryField (campaign: Campaign, seen: Set<string>, field: string, part: Schema, longest: number, send: Send): Promise<void> {
  const text = typesOf(part).includes('array') ? [part.items ?? {}].flat()[0] as Schema : part
  // What a password costs is for its hash to say.
  if (!typesOf(text).includes('string') || text.enum !== undefined || text.const !== undefined || isPassword(field, part)) return
  const most = Math.min(longest, Number(text.maxLength ?? Infinity))
  const known = JSON.stringify(text)
  const isKnown = seen.has(known)
  seen.add(known)
  let usual: number | null = null
  let takesAll = false
  for (const sign of isKnown ? [LETTER] : [LETTER, DIGIT, BLANK]) {
    // What takes any letters does not look for digits.
    if (sign === DIGIT && takesAll) continue
    const lengths = [...LENGTHS.filter(one => one * 1.3 < most), most]
    for (let length: number | undefined = lengths[0]; length !== undefined;) {
      const cost = await costOf(send, nearly(sign, length))
      if (cost === null) return
      usual ??= cost.ms
      takesAll ||= cost.exchange.status < 400
      const growth = cost.ms - usual > MOST_MS ? await growthOf(send, sign, length) : 'unknown'
      campaign.check('slowness.pattern', cost.exchange, growth !== 'steep', `${field}: ${length} characters in the time of so many`, `more than ${MOST_MS} ms of the processor, which grow faster than the length`, field)
      if (growth === 'steep') return
      // Of whatever takes its time longer ones take more, and are not tried.
      if (growth === 'even') break
      const last: number = length
      const next = lengths.find(one => one > last)
      length = next !== undefined && last < SEEN && cost.ms - usual > SOME_MS ? Math.min(next, Math.ceil(last * LITTLE)) : next
    }
  }
}

/** How its time grows with its length; not known of what takes little time, as it turns out. */
async function growthOf (send: Send, sign: string, length: number): Promise<'steep' | 'even' | 'unknown'> {
  const [none, half, whole] = [await leastOf(send, nearly(sign, 2)), await leastOf(send, nearly(sign, Math.floor(length / 2))), await leastOf(send, nearly(sign, length))]
  if (whole - none <= MOST_MS) return 'unknown'
  return whole - none > MOST_GROWTH * (half - none) ? 'steep' : 'even'
}

/** The least of several times, in which nothing else of the process can have had a share each time. */
async function leastOf (send: Send, text: string): Promise<number> {
  let ms = Infinity
  for (let i = 0; i < REPEATED; i++) ms = Math.min(ms, (await costOf(send, text))?.ms ?? 0)
  return ms
}

function nearly (sign: string, length: number): string {
  return `${sign.repeat(Math.max(0, length - 1))}${BAD_END}`
}

async function costOf (send: Send, text: string): Promise<{ ms: number, exchange: Exchange } | null> {
  const before = process.cpuUsage()
  const exchange = await send(text)
  const { user, system } = process.cpuUsage(before)
  return exchange === null ? null : { ms: (user + system) / 1000, exchange }
}
