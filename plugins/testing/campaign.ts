/** One run of the kit: what all families of attacks share. */
import type { FastifyInstance } from 'fastify'
import { CATALOGUE, FINDING_IDS, familyOf, type FamilyName, type FindingId } from './catalogue.js'
import { Callers, isSafe, Judge, type Caller } from './callers.js'
import type { AttackOptions, Check, Finding, Made, Report, RouteHints } from './contract.js'
import { curlOf } from './curl.js'
import { ObjectIds, pathOf, type Ids, type Whose } from './objects.js'
import { randomOf, type Random } from './random.js'
import { objectOf, propertiesOf, Unmade, valueOf, type Given } from './schemas.js'
import type { Route, Suite, Surface } from './surface.js'
import type { Received, Sent, Target } from './target.js'

/** A request, as a family makes it. */
export interface Shot {
  /** The route that is meant; null where it is none. */
  route: Route | null
  method?: string
  path?: string
  /** Name of the principal; null or nothing: nobody. */
  as?: string | null
  headers?: Readonly<Record<string, string>>
  body?: string | Buffer
  type?: string
  address?: string
  /** The object is the caller's own. */
  isOwn?: boolean
  /** The policy lets it through, so that a 401 means that its credential is used up. */
  isAllowed?: boolean
  /** Headers of credentials that the attack has made, and that commands show. */
  made?: readonly string[]
}

export interface Exchange extends Received {
  shot: Shot
  sent: Sent
  caller: Caller | null
  /** Of JSON. */
  json: unknown
}

export interface Family {
  name: FamilyName
  lead: (campaign: Campaign) => Promise<void> | void
  /** Called with every answer of every family. */
  observe?: (campaign: Campaign, exchange: Exchange) => void
}

interface Tally { tried: number, found: number, reason?: string, isSkipped: boolean, isUnproven: boolean }

/** Refused by a budget, and by nothing else. */
const TOO_MANY = 429
/** Milliseconds in which what a stream begins with is there. */
const STREAM_MS = 20

export class Campaign {
  readonly options: AttackOptions
  readonly surface: Surface
  readonly callers: Callers
  readonly judge: Judge
  readonly objects: ObjectIds
  readonly random: Random
  readonly target: Target
  /** Null where the service is in another process. */
  readonly app: Suite | null
  readonly routes: readonly Route[]
  /** Routes that have answered with success. */
  readonly succeeded = new Set<string>()
  readonly #observers: NonNullable<Family['observe']>[]
  readonly #families: ReadonlySet<FamilyName>
  readonly #tallies = new Map<FindingId, Tally>(FINDING_IDS.map(id => [id, { tried: 0, found: 0, isSkipped: false, isUnproven: false }]))
  readonly #findings = new Map<string, Finding>()
  readonly #skipped = new Map<string, Report['skipped'][number]>()
  readonly #unproven = new Map<string, Report['unproven'][number]>()
  /** Routes whose answers do not end: waited for once. */
  readonly #streams = new Set<string>()
  readonly #open = new Map<string, boolean>()
  #requests = 0
  #addresses = 0

  constructor (options: AttackOptions, surface: Surface, target: Target, app: FastifyInstance | null, families: readonly Family[]) {
    this.options = options
    this.surface = surface
    this.target = target
    this.app = app
    this.random = randomOf(options.seed ?? 1)
    this.callers = new Callers(options.principals ?? {})
    this.judge = new Judge(surface)
    this.objects = new ObjectIds(options.objects ?? {}, this.random)
    this.routes = surface.routes.filter(({ name }) => options.only === undefined || options.only.includes(name))
    this.#observers = families.flatMap(({ observe }) => observe ?? [])
    this.#families = new Set(families.map(({ name }) => name))
  }

  has (family: FamilyName): boolean {
    return this.#families.has(family)
  }

  hints (route: Route): RouteHints {
    return this.options.routes?.[route.name] ?? {}
  }

  /** True where the attack is switched off for this route, which is reported. */
  isOff (route: Route, id: FindingId): boolean {
    const { skip } = this.hints(route)
    if (skip === undefined) return false
    const isWhole = typeof skip === 'string'
    const reason = isWhole ? skip : skip[id] ?? skip[familyOf(id)]
    if (reason === undefined) return false
    const what = isWhole ? 'all' : skip[id] !== undefined ? id : familyOf(id)
    this.#skipped.set(`${route.name} ${what}`, { route: route.name, what, reason })
    this.#tallies.get(id)!.isSkipped = true
    return true
  }

  /** Sends a request. Where a budget is spent it is given back, as far as that is possible, and the request is sent again. */
  async ask (shot: Shot, countsBudget = false): Promise<Exchange> {
    let exchange = await this.#send(shot)
    if (exchange.status === TOO_MANY && !countsBudget && await this.#giveBack(exchange)) exchange = await this.#send(shot)
    if (exchange.status === 401 && shot.isAllowed === true && typeof shot.as === 'string' && this.#renew(shot.as)) exchange = await this.#send(shot)
    const isSuccess = exchange.status >= 200 && exchange.status < 400
    if (isSuccess && shot.route !== null && exchange.sent.method === shot.route.method) this.succeeded.add(shot.route.name)
    if (isSuccess && !isSafe(exchange.sent.method)) await this.#changed(exchange.caller)
    for (const observe of this.#observers) observe(this, exchange)
    return exchange
  }

  async #send (shot: Shot): Promise<Exchange> {
    const { route, as = null, body, type } = shot
    const method = shot.method ?? route?.method ?? 'GET'
    const caller = as === null ? null : await this.callers.get(as)
    const headers: Record<string, string> = {
      host: this.surface.host ?? 'localhost',
      ...this.options.headers,
      ...route === null ? {} : this.hints(route).headers,
      ...caller?.headers(method),
      ...type !== undefined && { 'content-type': type },
      ...shot.headers,
    }
    const sent: Sent = { method, path: shot.path ?? route?.url ?? '/', headers, address: shot.address ?? this.freshAddress(), ...body !== undefined && { body } }
    this.#requests += 1
    const isStream = route !== null && this.#streams.has(route.name)
    const received = await this.target.ask(sent, isStream ? STREAM_MS : this.options.timeout ?? 2000)
    if (received.isCut && route !== null) this.#streams.add(route.name)
    return { ...received, shot, sent, caller, json: jsonOf(received) }
  }

  freshAddress (): string {
    const n = ++this.#addresses
    return `10.${(n >> 16) & 255}.${(n >> 8) & 255}.${n & 255}`
  }

  /** The budgets of the suite forget who has spent them. */
  async #giveBack ({ caller, sent }: Exchange): Promise<boolean> {
    const { limits } = (this.app ?? {}) as Partial<FastifyInstance>
    if (limits === undefined) return false
    const { id, via } = caller?.principal ?? {}
    const subjects = [`address:${sent.address}`, ...id === undefined ? [] : [`user:${id}`, ...via === 'key' ? [`key:${id}`, `credential:${id}`] : []]]
    for (const { name } of limits.budgets()) for (const subject of subjects) await limits.reset(name, subject)
    return true
  }

  async #changed (caller: Caller | null): Promise<void> {
    await this.options.reset?.()
    for (const name of this.options.reset !== undefined ? this.callers.names : caller === null ? [] : [caller.name]) this.#renew(name)
  }

  /** Credentials are made anew, and what was theirs with them. */
  #renew (name: string): boolean {
    if (!this.callers.renew(name)) return false
    this.objects.forget(name)
    return true
  }

  /**
   * One attack, and whether the service held.
   *
   * @param way of several that lead to the same kind of finding: each is told of
   */
  check (id: FindingId, exchange: Exchange, isHeld: boolean, expected: string, got = describe(exchange), way = ''): boolean {
    const { shot: { route, as = null, made = [] }, sent } = exchange
    if (route !== null && this.isOff(route, id)) return isHeld
    const tally = this.#tallies.get(id)!
    tally.tried += 1
    if (isHeld) return true
    const name = route?.name ?? '*'
    const key = PASSIVE.has(familyOf(id)) || id.startsWith('input') ? `${id} ${name} ${way}` : `${id} ${name} ${as} ${way}`
    if (this.#findings.has(key)) return false
    tally.found += 1
    this.#findings.set(key, { id, severity: CATALOGUE[id].severity, route: name, principal: as, expected, got, reproduce: curlOf(this.target.origin, sent, as, new Set(made)) })
    return false
  }

  /** A finding that no request shows. */
  find (id: FindingId, route: string, expected: string, got: string): void {
    const tally = this.#tallies.get(id)!
    tally.tried += 1
    tally.found += 1
    this.#findings.set(`${id} ${route}`, { id, severity: CATALOGUE[id].severity, route, principal: null, expected, got, reproduce: '' })
  }

  /** It was applicable, and could not be decided. */
  unproven (route: Route, id: FindingId, reason: string): void {
    if (this.isOff(route, id)) return
    this.#tallies.get(id)!.isUnproven = true
    this.#unproven.set(`${route.name} ${id}`, { route: route.name, what: id, reason })
  }

  notApplicable (ids: FindingId | readonly FindingId[], reason: string): void {
    for (const id of [ids].flat() as FindingId[]) this.#tallies.get(id)!.reason ??= reason
  }

  /** Whether a guarded route answers nobody at all, which is a finding of its own: what else passes there says nothing. */
  async isOpen (route: Route): Promise<boolean> {
    const known = this.#open.get(route.name)
    if (known !== undefined) return known
    const path = await this.path(route, null, 'any') ?? await this.path(route, null, 'missing')
    // Elsewhere than in the suite a body is read before anybody asks who sent it.
    const filled = isSafe(route.method) ? {} : this.surface.isSuite ? { body: '{"', type: 'application/json' } : await this.body(route).catch(() => ({}))
    const { status } = await this.ask({ route, path: path!, ...filled })
    const isOpen = status < 300
    this.#open.set(route.name, isOpen)
    return isOpen
  }

  /** Callers whom the policy lets through, in the order in which they were given; null, nobody, where it is public. */
  async passing (route: Route): Promise<(string | null)[]> {
    const found: (string | null)[] = this.judge.verdictOn(route, null).passes === true ? [null] : []
    for (const caller of await this.callers.all()) if (this.judge.verdictOn(route, caller).passes === true) found.push(caller.name)
    return found
  }

  /**
   * A request that the policy lets through: path, query and body are made of the schemas.
   *
   * @returns a reason where none can be made
   */
  async valid (route: Route, as: string | null, whose: Whose = 'any', change?: (body: unknown) => unknown): Promise<Shot | string> {
    try {
      if (as !== null) await this.callers.get(as)
      // What is not valid any more is refused, and changes nothing where bodies are strict.
      const path = await this.path(route, as, whose, !isSafe(route.method) && (change === undefined || !this.surface.strict))
      if (path === null) return `objects names no ${whose} ${route.params.join(', ')}${as === null ? '' : ` of ${as}`}`
      const body = await this.body(route, change)
      return { route, as, path, ...body, ...whose !== 'any' && { isOwn: whose === 'own' } }
    } catch (error) {
      if (error instanceof Unmade) return error.message
      throw error
    }
  }

  /** @param fresh an object that may be changed or deleted */
  async path (route: Route, as: string | null, whose: Whose = 'any', fresh = false): Promise<string | null> {
    const { objects, query } = this.hints(route)
    const given = await this.#given(route.paramsSchema)
    const ids: Ids | null = await this.objects.of(route, as, whose, fresh, objects, given)
    return ids === null ? null : `${pathOf(route.url, ids)}${searchOf(query === undefined ? await this.requiredQuery(route) : await made(query))}`
  }

  async requiredQuery (route: Route): Promise<Record<string, unknown>> {
    const { required = [] } = (objectOf(route.querySchema) ?? {}) as { required?: string[] }
    const given = await this.#given(route.querySchema)
    return Object.fromEntries(Object.entries(propertiesOf(route.querySchema)).filter(([name]) => required.includes(name)).map(([name, part]) => [name, given(name) ?? valueOf(part, given, `/${name}`)]))
  }

  /** The value of a valid body; undefined where the route takes none. */
  async bodyValue (route: Route): Promise<unknown> {
    const { body } = this.hints(route)
    if (body !== undefined) return made(body)
    return route.body === null ? undefined : valueOf(route.body.schema, await this.#given(route.body.schema))
  }

  async body (route: Route, change: (body: unknown) => unknown = body => body): Promise<Pick<Shot, 'body' | 'type'>> {
    const { body, type = route.body?.type ?? 'application/json' } = this.hints(route)
    if (body === undefined && route.body?.type.startsWith('multipart/') === true) throw new Unmade('a body of several parts')
    const value = await this.bodyValue(route)
    if (value === undefined) return {}
    return { type, body: typeof value === 'string' || Buffer.isBuffer(value) ? value : written(type, change(value)) }
  }

  /** What the caller of the kit gives for the fields of a schema. */
  async #given (schema: unknown): Promise<Given> {
    const { values = {} } = this.options
    const known = new Map<string, unknown>()
    const look = async (part: unknown, depth: number): Promise<void> => {
      for (const [name, inner] of Object.entries(propertiesOf(part))) {
        if (Object.hasOwn(values, name) && !known.has(name)) known.set(name, await made(values[name]))
        if (depth < 4) await look(inner, depth + 1)
      }
    }
    await look(schema, 0)
    return name => known.get(name)
  }

  report (duration: number): Report {
    const checks = FINDING_IDS.filter(id => this.#families.has(familyOf(id))).map((id): Check => {
      const { tried, found, reason, isSkipped, isUnproven } = this.#tallies.get(id)!
      const state = found > 0 ? 'broken' : tried > 0 ? 'held' : isUnproven ? 'unproven' : isSkipped ? 'skipped' : 'not applicable'
      return { id, family: familyOf(id), state, tried, found, ...tried === 0 && { reason: reason ?? 'nothing here promises it' } }
    })
    const rank = (id: FindingId) => ['critical', 'high', 'medium', 'low'].indexOf(CATALOGUE[id].severity)
    return {
      findings: [...this.#findings.values()].sort((a, b) => rank(a.id) - rank(b.id)),
      checks,
      skipped: [...this.#skipped.values()],
      unproven: [...this.#unproven.values()],
      routes: this.routes.map(({ name }) => name),
      requests: this.#requests,
      seed: this.options.seed ?? 1,
      duration,
    }
  }
}

/** Families whose findings are the same whoever asks. */
const PASSIVE: ReadonlySet<FamilyName> = new Set(['answers', 'leaks', 'limits', 'mutations', 'assignment'])

export function made<T> (source: Made<T>): T | Promise<T> {
  return typeof source === 'function' ? (source as () => T | Promise<T>)() : source
}

export function written (type: string, value: unknown): string {
  return type === 'application/x-www-form-urlencoded' ? new URLSearchParams(Object.entries(value as object).map(([name, part]): [string, string] => [name, String(part)])).toString() : JSON.stringify(value)
}

export function searchOf (query: Readonly<Record<string, unknown>>): string {
  const text = new URLSearchParams(Object.entries(query).map(([name, value]): [string, string] => [name, String(value)])).toString()
  return text === '' ? '' : `?${text}`
}

export function describe ({ status, json, isCut }: Exchange): string {
  const { code } = (json ?? {}) as { code?: unknown }
  return `${status}${typeof code === 'string' ? ` ${code}` : ''}${isCut ? ', and did not end' : ''}`
}

function jsonOf ({ headers, text }: Received): unknown {
  if (text === '' || !/\bjson\b/.test(String(headers['content-type']))) return undefined
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
