/** One run of the kit: what all families of attacks share. */
import type { FastifyInstance } from 'fastify'
import type { FamilyName, FindingId } from './catalogue.js'
import { isSafe, Judge, kindOf, type Caller } from './callers.js'
import type { AttackOptions, Report } from './contract.js'
import { jsonOf, type Exchange, type Shot } from './exchange.js'
import { Ledger, NOBODY_PASSES } from './ledger.js'
import { matches } from './paths.js'
import { Requests } from './requests.js'
import type { Route, Suite, Surface } from './surface.js'
import { CLOSED, Unreachable, type Received, type Sent, type Target } from './target.js'

export type { Exchange, Shot } from './exchange.js'

export interface Family {
  name: FamilyName
  lead: (campaign: Campaign) => Promise<void> | void
  /** Called with every answer of every family. */
  observe?: (campaign: Campaign, exchange: Exchange) => void
}

/** Refused by a budget, and by nothing else. */
const TOO_MANY = 429
const UNSENT: Received = { status: CLOSED, headers: {}, text: '', isCut: false, isUnsent: true }
/** Milliseconds in which what a stream begins with is there. */
const STREAM_MS = 20
/** After so many a route is asked no more: where it did not answer, and where its budget was spent, time after time. */
const MAX_SILENCES = 3
const MAX_REFUSED = 20
/** Callers whose valid request is tried before an attack on what it holds. */
const MAX_TRIES = 2
/** Callers as whom one body is attacked. */
const MAX_ACTORS = 4

export class Campaign extends Requests {
  readonly judge: Judge
  readonly target: Target
  /** Null where the service is in another process. */
  readonly app: Suite | null
  readonly routes: readonly Route[]
  /** Those that no request may reach, whatever it is for. */
  readonly #barred: readonly Route[]
  readonly #ledger: Ledger
  readonly #observers: NonNullable<Family['observe']>[]
  /** Routes whose answers do not end: waited for once. */
  readonly #streams = new Set<string>()
  readonly #idle = new Map<string, { times: number, received: Received }>()
  readonly #open = new Map<string, boolean>()
  readonly #tried = new Set<string>()
  readonly #nowhere = new Map<string, Exchange>()
  #isTogether = false
  #requests = 0
  #addresses = 0

  constructor (options: AttackOptions, surface: Surface, target: Target, app: FastifyInstance | null, families: readonly Family[]) {
    super(options, surface)
    this.target = target
    this.app = app
    this.judge = new Judge(surface)
    const isBarred = ({ name, method }: Route) => typeof options.routes?.[name]?.skip === 'string' || (options.safe === true && !isSafe(method))
    this.#barred = surface.routes.filter(isBarred)
    this.routes = surface.routes.filter(route => !isBarred(route) && (options.only === undefined || options.only.includes(route.name)))
    this.#ledger = new Ledger(options, target.origin, this.mask, families.map(({ name }) => name))
    for (const { name } of this.#barred) this.#ledger.skip(name, options.routes?.[name]?.skip as string | undefined ?? 'safe: what changes something is not asked for')
    this.#observers = families.flatMap(({ observe }) => observe ?? [])
  }

  // What was tried and found: see the ledger.
  has (family: FamilyName): boolean {
    return this.#ledger.has(family)
  }

  isOff (route: Route, id: FindingId): boolean {
    return this.#ledger.isOff(route, id)
  }

  check (id: FindingId, exchange: Exchange, isHeld: boolean, expected: string, got?: string, way?: string): boolean {
    return this.#ledger.check(id, exchange, isHeld, expected, got, way)
  }

  find (id: FindingId, route: string, expected: string, got: string): void {
    this.#ledger.find(id, route, expected, got)
  }

  unproven (route: Route, id: FindingId, reason: string): void {
    this.#ledger.unproven(route, id, reason)
  }

  notApplicable (ids: FindingId | readonly FindingId[], reason: string): void {
    this.#ledger.notApplicable(ids, reason)
  }

  hasSucceeded (route: Route, as?: string | null): boolean {
    return this.#ledger.hasSucceeded(route, as)
  }

  /** Leads the families, until the service is gone. */
  async lead (families: readonly Family[]): Promise<void> {
    try {
      for (const { lead } of families) await lead(this)
    } catch (error) {
      if (!(error instanceof Unreachable)) throw error
      this.#ledger.abort(error.message)
    }
  }

  report (duration: number): Report {
    return this.#ledger.report(this.routes, this.#requests, duration)
  }

  /** Sends a request. Where a budget is spent it is given back, as far as that is possible, and the request is sent again. */
  async ask (shot: Shot, countsBudget = false): Promise<Exchange> {
    let exchange = await this.#send(shot, countsBudget)
    if (exchange.isUnsent === true) return exchange
    if (exchange.status === TOO_MANY && !countsBudget && await this.giveBack(exchange.sent.address)) exchange = await this.#send(shot)
    if (exchange.status === 401 && shot.isAllowed === true && typeof shot.as === 'string' && this.#renew(shot.as)) exchange = await this.#send(shot)
    this.#ledger.saw(exchange)
    const isSuccess = exchange.status >= 200 && exchange.status < 400
    if (isSuccess && !isSafe(exchange.sent.method)) await this.#changed(exchange.caller)
    for (const observe of this.#observers) observe(this, exchange)
    return exchange
  }

  async #send (shot: Shot, countsBudget = false): Promise<Exchange> {
    const { route, as = null, body, type } = shot
    const method = shot.method ?? route?.method ?? 'GET'
    const caller = as === null ? null : await this.callers.get(as)
    const headers: Record<string, string> = {
      host: this.surface.host ?? this.target.host,
      ...this.options.headers,
      ...route?.sends,
      ...route === null ? {} : this.hints(route).headers,
      ...caller?.headers(method),
      ...type !== undefined && { 'content-type': type },
      ...shot.headers,
    }
    const sent: Sent = { method, path: shot.path ?? route?.url ?? '/', headers, address: shot.address ?? this.freshAddress(), ...body !== undefined && { body } }
    const isUnsent = this.#isBarred(sent)
    if (!isUnsent) this.#requests += 1
    const received = isUnsent ? UNSENT : await (route === null || countsBudget ? this.target.ask(sent, this.options.timeout ?? 2000) : this.#receive(sent, route.name))
    return { ...received, shot, sent, caller, json: jsonOf(received) }
  }

  #isBarred ({ method, path }: Sent): boolean {
    if (this.options.safe === true && !isSafe(method)) return true
    const isHere = (route: Route) => (route.method === method || (method === 'HEAD' && route.hasHead)) && matches(route.url, path)
    if (!this.#barred.some(isHere)) return false
    // What is said more exactly is what a router takes.
    const rank = ({ url, params }: Route) => params.length + (url.includes('*') ? 100 : 0)
    return this.#barred.includes(this.surface.routes.filter(isHere).sort((a, b) => rank(a) - rank(b))[0]!)
  }

  /** Where answers do not end, or never begin, nobody waits for each of them. */
  async #receive (sent: Sent, route: string): Promise<Received> {
    const idle = this.#idle.get(route)
    if (idle !== undefined && idle.times >= (idle.received.status === CLOSED ? MAX_SILENCES : MAX_REFUSED)) return idle.received
    const received = await this.target.ask(sent, this.#streams.has(route) ? STREAM_MS : this.options.timeout ?? 2000)
    const isSilent = received.isCut && received.status === CLOSED
    if (isSilent || received.status === TOO_MANY) this.#idle.set(route, { times: (idle?.times ?? 0) + 1, received })
    else if (idle?.received.status === TOO_MANY) this.#idle.delete(route)
    if (received.isCut && !isSilent) this.#streams.add(route)
    return received
  }

  freshAddress (): string {
    const n = ++this.#addresses
    return `10.${(n >> 16) & 255}.${(n >> 8) & 255}.${n & 255}`
  }

  /** The budgets of the suite forget what the address and the callers have spent: whose credential was sent is not always known. */
  async giveBack (address: string): Promise<boolean> {
    const { limits } = (this.app ?? {}) as Partial<FastifyInstance>
    if (limits === undefined) return false
    const callers = (await this.callers.all()).flatMap(({ principal: { id, via, plan } }) => [...plan === undefined ? [] : [`plan:${plan}`], ...id === undefined ? [] : via === 'key' ? [`key:${id}`, `credential:${id}`] : [`user:${id}`]])
    for (const { name } of limits.budgets()) {
      for (const subject of new Set([`address:${this.target.hasAddresses ? address : '127.0.0.1'}`, ...callers])) {
        if ((await limits.inspect(name, subject)).some(({ remaining, limit }) => remaining < limit)) await limits.reset(name, subject)
      }
    }
    return true
  }

  /** What is changed meanwhile stays, and callers stay who they are: that is made up for at the end. */
  async together<T> (work: () => Promise<T>): Promise<T> {
    this.#isTogether = true
    try {
      return await work()
    } finally {
      this.#isTogether = false
      await this.options.reset?.()
      for (const name of this.callers.names) this.#renew(name)
    }
  }

  async #changed (caller: Caller | null): Promise<void> {
    if (this.#isTogether) return
    await this.options.reset?.()
    for (const name of this.options.reset !== undefined ? this.callers.names : caller === null ? [] : [caller.name]) this.#renew(name)
  }

  /** Credentials are made anew, and what was theirs with them. */
  #renew (name: string): boolean {
    if (!this.callers.renew(name)) return false
    this.objects.forget(name)
    return true
  }

  /** Whether a guarded route answers nobody at all, which is a finding of its own: what else passes there says nothing. */
  async isOpen (route: Route): Promise<boolean> {
    const known = this.#open.get(route.name)
    if (known !== undefined) return known
    const { status } = await this.ask({ route, path: await this.anyPath(route, null), ...await this.anyBody(route) })
    const isOpen = status < 300
    this.#open.set(route.name, isOpen)
    return isOpen
  }

  /** Whether that is what is answered where nothing is: the page of an application that finds its way by itself. */
  async isOfNowhere ({ status, text, sent: { method, headers } }: Exchange): Promise<boolean> {
    const known = this.#nowhere.get(method) ?? await this.ask({ route: null, method, path: '/nowhere-that-anybody-declared', ...headers['content-type'] !== undefined && { body: '{}', type: 'application/json' } })
    this.#nowhere.set(method, known)
    return known.status === status && known.text === text
  }

  /** Callers whom the policy lets through, in the order in which they were given; null, nobody, where it is public. */
  async passing (route: Route): Promise<(string | null)[]> {
    const found: (string | null)[] = this.judge.verdictOn(route, null).passes === true ? [null] : []
    for (const caller of await this.callers.all()) if (this.judge.verdictOn(route, caller).passes === true) found.push(caller.name)
    return found
  }

  /**
   * Who calls where a request must be valid: the first whose does succeed, so that refusals of what is changed in it mean something.
   *
   * @param ids of which nothing is proven where nobody passes: undefined is answered then
   */
  async actor (route: Route, ids: readonly FindingId[] = []): Promise<string | null | undefined> {
    const callers = await this.passing(route)
    const known = callers.find(as => this.#ledger.hasSucceeded(route, as))
    if (known !== undefined) return known
    for (const as of callers.slice(0, MAX_TRIES)) if (await this.#succeeds(route, as)) return as
    if (callers.length === 0 && !route.isGone) for (const id of ids) this.unproven(route, id, NOBODY_PASSES)
    return callers[0]
  }

  /** The actor, and callers of other kinds whose valid requests succeed, too: those first who come by another way. */
  async actors (route: Route, ids: readonly FindingId[]): Promise<(string | null)[]> {
    const actor = await this.actor(route, ids)
    if (actor === undefined) return []
    // Who is erased is needed elsewhere.
    if (route.erases || !this.#ledger.hasSucceeded(route, actor)) return [actor]
    const passing = await Promise.all((await this.passing(route)).map(async as => as === null ? { as, way: '', kind: '' } : this.callers.get(as).then(caller => ({ as, way: caller.principal.via, kind: kindOf(caller) }))))
    const found = passing.filter(({ as }) => as === actor)
    for (const isNew of [(one: typeof found[0]) => found.every(({ way }) => way !== one.way), (one: typeof found[0]) => found.every(({ kind }) => kind !== one.kind)]) {
      for (const one of passing) if (found.length < MAX_ACTORS && isNew(one) && await this.#succeeds(route, one.as)) found.push(one)
    }
    return found.map(({ as }) => as)
  }

  /** Whether a valid request of theirs does; tried once. */
  async #succeeds (route: Route, as: string | null): Promise<boolean> {
    if (this.#ledger.hasSucceeded(route, as) || this.#tried.has(`${route.name} ${as}`)) return this.#ledger.hasSucceeded(route, as)
    this.#tried.add(`${route.name} ${as}`)
    const shot = await this.ofOwn(route, as)
    return typeof shot !== 'string' && (await this.ask({ ...shot, isAllowed: true })).status < 400
  }

  /** Where a refusal says nothing by itself: the same, from somebody whom the policy lets through. */
  async confirm (id: FindingId, { shot: { route, body, type }, sent: { path }, status }: Exchange): Promise<void> {
    if (route === null || !this.#ledger.restsOnSame(id, status)) return
    const owner = this.objects.ownerIn(`${path} ${String(body ?? '')}`)
    const callers = (await this.callers.all()).filter(caller => this.judge.verdictOn(route, caller).passes === true)
    const one = callers.find(({ name }) => name === owner) ?? callers.find(caller => owner === null || this.judge.reachesForeign(route, caller, this.hints(route).foreign) === true)
    if (one !== undefined) await this.ask({ route, as: one.name, path, isAllowed: true, ...body !== undefined && { body, ...type !== undefined && { type } } })
  }
}
