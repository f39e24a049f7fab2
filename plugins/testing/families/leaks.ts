/**
 * Failures: what a handler that throws tells, and what odd values make it tell. In an application of this process that runs the suite, each route is
 * made to throw an error full of a canary, by the plan that runs: where its guards stand, so that no valid request is needed; it goes the way of every error.
 */
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Campaign, Exchange, Family } from '../campaign.js'
import { isSafe } from '../callers.js'
import { unreadable } from '../exchange.js'
import { filled, matches } from '../paths.js'
import { readingsOf, wayIn } from '../readings.js'
import { READ } from '../schemas.js'
import type { Route } from '../surface.js'
import { CLOSED } from '../target.js'

const INTERNAL = [
  /\bat (?:async )?(?:[\w.<>$ [\]]+ \()?(?:file:\/\/)?\/[^\s)"]+:\d+:\d+/, /node_modules/, /\b(?:postgres(?:ql)?|mysql|redis|rediss|mongodb(?:\+srv)?|amqp):\/\/[^\s"]+/, /syntax error at or near|invalid input syntax for|violates (?:unique|foreign key|not-null|check) constraint|duplicate key value|(?:relation|column) \\?"[^"]+" does not exist/,
  /\bSQLITE_[A-Z]+|\bER_[A-Z]+_[A-Z]+|\bORA-\d{5}|near \\?"[^"]*\\?": syntax error|unrecognized token/, /\b(?:ECONNREFUSED|ENOENT|EACCES|ENOTDIR|EISDIR)\b/, /Cannot (?:read|set) propert(?:y|ies) of|is not (?:a function|iterable|defined)|Unexpected token .+ in JSON/, /"stack":"/,
  /\bselect\s(?:distinct\s)?(?:[\w."'`*()[\]]+\s?,\s?){0,40}[\w."'`*()[\]]+\sfrom\s(?!(?:an?|the|th[aeio][st]e?|your|our|my|any|each|all|one)\b)["'`[\w(]/i, /\binsert\sinto\s\S+\s?(?:\(|select\b|values\b)|\bupdate\s\S+\sset\s\S+\s?=|\bdelete\sfrom\s\S+\s(?:where\s\S+\s?(?:[=<>]|in\b|is\b|like\b)|returning\b)/i,
  /(?:^|[\s"'(])\/(?:home|usr|srv|opt|var|root|app|tmp)\/[\w./-]+\.\w+/,
]
const ODD_IDS = ["'", "'%20or%20'1'='1", '-1', '0', '99999999999999999999', 'NaN', '[object%20Object]', '%00', '..%2f..%2fetc%2fpasswd', '%24%7b7*7%7d', '__proto__', 'constructor', '%E2%80%AE', "1'--", '..%2f.env', '..%2f..%2f.env', '..%2fpackage.json', '%2e%2e/.env']
const ODD_QUERIES = ['limit=-1', 'limit=abc', "sort='", 'q[]=1&q[a]=2', '__proto__[x]=1', 'q=%00', "q='%22%5C", 'q=%25', 'cursor=x', 'page=99999999999999999999']

/** Characters of a body that is read before anybody answers. */
const SHORT = 16_384
/** In a URL, that the report need not repeat. */
const CREDENTIALS = /:\/\/[^\s/@]*@/
const SECRET = /pass|secret|code|token/i

type Chain = (request: FastifyRequest, reply: FastifyReply, payload: unknown, done: (error?: Error) => void) => void

export const leaks: Family = {
  name: 'leaks',
  async lead (campaign) {
    for (const route of campaign.routes) {
      await tryThrowing(campaign, route)
      await tryOdd(campaign, route)
      await tryAccounts(campaign, route)
    }
    campaign.notApplicable('leaks.accounts', 'no route says of which field it tells nothing')
    campaign.notApplicable('leaks.canary', 'only an application of this process that runs the suite can be made to fail')
  },
  observe (campaign, exchange) {
    const { status, text, shot: { route }, sent } = exchange
    if (status < 400) return
    // 503 is what a service says that has too much to do, and 501 that it knows no such method.
    // Who closes early what is long need not have read it.
    const isSilent = status === CLOSED && (sent.body?.length ?? 0) < SHORT
    if (route !== null || status < 500) campaign.check('leaks.failure', exchange, (status < 500 && !isSilent) || status === 501 || status === 503, 'a refusal')
    const told = INTERNAL.map(pattern => pattern.exec(text)?.[0]).find(found => found !== undefined)
    campaign.check('leaks.internal', exchange, told === undefined, 'nothing of what is inside', `${status}, with ${JSON.stringify(told?.replace(CREDENTIALS, '://…@').slice(0, 60))}`)
  },
}

async function tryThrowing (campaign: Campaign, route: Route): Promise<void> {
  const plan = campaign.app?.plan
  const chains = (route.planned as unknown as { chains?: Record<'guard' | 'resource', Chain | null> } | null)?.chains
  if (plan === undefined || chains === undefined || route.isGone || campaign.isOff(route, 'leaks.canary')) return
  const canary = `canary-${campaign.random.text(12)}`
  const phase = 'guard'
  const kept = chains[phase]
  let hasThrown = false
  // Before anybody is asked who they are, so that no valid request is needed; it goes the way of every error.
  chains[phase] = (_request, _reply, _payload, done) => {
    hasThrown = true
    done(faultWith(canary))
  }
  try {
    const path = await campaign.anyPath(route, null)
    const exchange = await campaign.target.ask({ method: route.method, path, headers: { host: campaign.surface.host ?? campaign.target.host, ...campaign.options.headers, ...route.sends }, address: campaign.freshAddress() }, campaign.options.timeout ?? 2000)
    if (!hasThrown) return
    const whole: Exchange = { ...exchange, shot: { route }, sent: { method: route.method, path, headers: {}, address: '' }, caller: null, json: undefined }
    campaign.check('leaks.canary', whole, exchange.status >= 500 && wayIn(readingsOf(`${JSON.stringify(exchange.headers)}\n${exchange.text}`), canary) === null, '500 without a word of the error', `${exchange.status}, with its message`)
  } finally {
    chains[phase] = kept
  }
}

/** An error as drivers and clients throw it. */
function faultWith (canary: string): Error {
  return Object.assign(new Error(`${canary}: select * from users at postgres://app:${canary}@db.internal/app`, { cause: new Error(canary) }), {
    code: canary, detail: canary, hint: canary, response: { data: canary }, headers: { 'x-canary': canary, 'set-cookie': canary }, name: canary, validation: canary,
  })
}

/** Somebody whom there is and somebody whom there is not, with nothing that would let them in. */
async function tryAccounts (campaign: Campaign, route: Route): Promise<void> {
  const { conceals } = route
  if (conceals === null || route.isGone || campaign.isOff(route, 'leaks.accounts')) return
  const ask = async (isThere: boolean) => {
    const shot = await campaign.valid(route, null, 'any', body => Object.fromEntries(Object.entries(body as object).map(([name, value]) => [name, name === conceals ? isThere ? value : unlike(String(value)) : SECRET.test(name) ? 'Not-the-right-1-of-this' : value])))
    return typeof shot === 'string' ? shot : campaign.ask(shot)
  }
  const [known, unknown] = [await ask(true), await ask(false)]
  if (typeof known === 'string' || typeof unknown === 'string' || known.sent.body === undefined || !READ.has(route.body?.type ?? '')) return campaign.unproven(route, 'leaks.accounts', 'no valid body can be made: give it in values')
  campaign.check('leaks.accounts', unknown, known.status === unknown.status && said(known) === said(unknown), `${known.status}, as where there is such an account`)
}

/** What is answered, without what was sent and what is different each time. */
function said ({ status, json, text, sent: { body } }: Exchange): string {
  // What lets in is different each time, and has the same fields.
  if (status < 400) return Object.keys((json ?? {}) as object).join()
  const { requestId, instance, stack, ...rest } = (typeof json === 'object' && json !== null ? json : { text }) as Record<string, unknown>
  const fields = String(body).startsWith('{') ? Object.values(JSON.parse(String(body)) as object) : [...new URLSearchParams(String(body)).values()]
  return fields.reduce<string>((all, value) => all.replaceAll(String(value), ''), JSON.stringify(rest))
}

/** Of nobody, and of the same form and length. */
function unlike (value: string): string {
  const end = value.includes('@') ? value.indexOf('@') : value.length
  return `${'zq'.repeat(end).slice(0, end)}${value.slice(end)}`
}

/** Values on which drivers and parsers stumble. */
async function tryOdd (campaign: Campaign, route: Route): Promise<void> {
  if (campaign.isOff(route, 'leaks.internal') || route.isGone) return
  const callers = await campaign.passing(route)
  const as = callers.find(name => name !== null) ?? callers[0]
  if (as === undefined) return
  const content = unreadable(route)
  for (const id of route.params.length === 0 ? [] : ODD_IDS) {
    const path = filled(route.url, () => id)
    if (!matches(route.url, path) && id !== '%00') continue
    await campaign.ask({ route, as, path, ...content, isAllowed: true })
  }
  if (!isSafe(route.method)) return
  const [plain = ''] = (await campaign.anyPath(route, as)).split('?')
  const askWith = (query: string) => campaign.ask({ route, as, path: `${plain}?${query}`, isAllowed: true })
  // Where a plan says that no query is taken, all of them in one; what is refused may hide the others.
  const isTaken = route.planned === null || route.querySchema !== null
  if (isTaken || (await askWith(ODD_QUERIES.join('&'))).status >= 400) for (const query of ODD_QUERIES) await askWith(query)
  campaign.notApplicable('leaks.failure', 'nothing was refused')
  campaign.notApplicable('leaks.internal', 'nothing was refused')
}
