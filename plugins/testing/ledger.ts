/**
 * What was tried, what did not hold, and what could not be decided. A refusal proves nothing by itself: a route that is not there refuses, an object
 * that is gone, a body that lacks something else, a budget that is spent. What it rests on must have been seen to pass: see `#doubtOf`.
 */
import { CATALOGUE, FINDING_IDS, familyOf, type FamilyName, type FindingId } from './catalogue.js'
import type { AttackOptions, Check, Finding, Report } from './contract.js'
import { curlOf } from './curl.js'
import { describe, isLead, type Exchange } from './exchange.js'
import type { Mask } from './masking.js'
import type { Route } from './surface.js'
import { CLOSED } from './target.js'

interface Tally { tried: number, found: number, reason?: string, isSkipped: boolean, unproven: Set<string> }

/**
 * What must have passed before a refusal says anything: `caller`, somebody whom the policy lets in, on this route; `same`, the very same request of
 * somebody whom it lets in; `body`, a valid request of the same caller; `any`, nothing but that there is an answer.
 */
type Rest = 'caller' | 'same' | 'body' | 'any'

const RESTS: readonly [ids: RegExp, rest: Rest][] = [
  [/^authorization\.(?:open|role|step-up|head)$|^credentials\.(?!csrf|fixation)/, 'caller'],
  [/^authorization\.(?:object|hidden)$/, 'same'],
  [/^input\.(?:type|bounds|missing|query|card)$|^assignment|^mutations\.(?:media-type|malformed)$/, 'body'],
  [/^(?:authorization|credentials|input|mutations|uploads)\./, 'any'],
]
/** Refusals that speak of who asks; any other may have been for something else. */
const OF_CALLERS: ReadonlySet<number> = new Set([401, 403, 410])
/** Refusals that do not speak of what was sent. */
const OF_OTHERS: ReadonlySet<number> = new Set([401, 403, 404, 405])
export const NOBODY_PASSES = 'no principal given passes'
const TOO_MANY = 429

/** Families whose findings are the same whoever asks. */
const PASSIVE: ReadonlySet<FamilyName> = new Set(['answers', 'leaks', 'limits', 'mutations', 'assignment', 'traces'])

function restOf (id: FindingId): Rest | undefined {
  return RESTS.find(([ids]) => ids.test(id))?.[1]
}

export class Ledger {
  readonly #options: AttackOptions
  readonly #origin: string
  readonly #mask: Mask
  readonly #families: ReadonlySet<FamilyName>
  readonly #tallies = new Map<FindingId, Tally>(FINDING_IDS.map(id => [id, { tried: 0, found: 0, isSkipped: false, unproven: new Set() }]))
  readonly #findings = new Map<string, Finding>()
  readonly #skipped = new Map<string, Report['skipped'][number]>()
  readonly #unproven = new Map<string, Report['unproven'][number]>()
  /** By route, who has succeeded; and of whom the policy lets in, who was not told that they may not. */
  readonly #succeeded = new Map<string, Set<string | null>>()
  readonly #letIn = new Set<string>()
  #aborted: string | null = null
  /** By request, where it led those whom the policy lets in; null where it did not succeed. */
  readonly #reached = new Map<string, string | null>()

  /** @param origin of the service, for commands */
  constructor (options: AttackOptions, origin: string, mask: Mask, families: readonly FamilyName[]) {
    this.#options = options
    this.#origin = origin
    this.#mask = mask
    this.#families = new Set(families)
  }

  has (family: FamilyName): boolean {
    return this.#families.has(family)
  }

  /** What is asked by those whom the policy lets in is what refusals are held against. */
  saw ({ shot: { route, as = null, isAllowed }, sent, status, headers }: Exchange): void {
    if (route === null || isAllowed !== true || sent.method !== route.method || status === TOO_MANY || status === CLOSED) return
    const isSuccess = status < 400
    if (!OF_CALLERS.has(status)) this.#letIn.add(route.name)
    if (isSuccess) this.#succeeded.set(route.name, (this.#succeeded.get(route.name) ?? new Set()).add(as))
    this.#reached.set(`${route.name} ${sent.path}`, isSuccess ? String(headers.location ?? '') : null)
  }

  /** @param as anybody, where it is left out */
  hasSucceeded (route: Route, as?: string | null): boolean {
    const known = this.#succeeded.get(route.name)
    return known !== undefined && (as === undefined || known.has(as))
  }

  /** Whether the same must be seen to pass before this says anything. */
  restsOnSame (id: FindingId, status: number): boolean {
    const rest = restOf(id)
    return status >= 300 && (rest === 'same' || (rest === 'caller' && !OF_CALLERS.has(status)))
  }

  /** Why a refusal proves nothing; null where it proves something, and where it is none. */
  #doubtOf (id: FindingId, { status, headers, sent, shot: { route, as = null } }: Exchange): string | null {
    const rest = restOf(id)
    if (rest === undefined || route === null || route.isGone || status < 300) return null
    if (status === TOO_MANY) return 'a budget was spent (429): give more of it, or reset it'
    if (status === CLOSED) return 'there was no answer'
    if (rest === 'body') {
      if (!this.hasSucceeded(route, as)) return `no valid request of ${as ?? 'nobody'} has succeeded: give its body, values or objects`
      return OF_OTHERS.has(status) ? `it was refused for something else (${status})` : null
    }
    if (rest === 'caller' && OF_CALLERS.has(status)) return this.#letIn.has(route.name) ? null : NOBODY_PASSES
    if (rest === 'any') return null
    const reached = this.#reached.get(`${route.name} ${sent.path}`) ?? null
    if (reached === null) return `the same request has not succeeded for anybody whom the policy lets in (${status}): give its objects or body`
    return isLead(status) && reached !== '' && reached !== headers.location ? `it was led to ${String(headers.location)}, as who is let in is led elsewhere` : null
  }

  /** Led where those are whom the policy lets in: that is no refusal. */
  #isLedAlike (id: FindingId, { status, headers, sent, shot: { route } }: Exchange): boolean {
    return restOf(id) === 'caller' && route !== null && isLead(status) && this.#reached.get(`${route.name} ${sent.path}`) === headers.location
  }

  /** Nothing is asked there at all. */
  skip (route: string, reason: string): void {
    this.#skipped.set(`${route} all`, { route, what: 'all', reason })
  }

  /** True where the attack is switched off for this route, which is reported. */
  isOff (route: Route, id: FindingId): boolean {
    const { skip } = this.#options.routes?.[route.name] ?? {}
    if (skip === undefined) return false
    const isWhole = typeof skip === 'string'
    const reason = isWhole ? skip : skip[id] ?? skip[familyOf(id)]
    if (reason === undefined) return false
    const what = isWhole ? 'all' : skip[id] !== undefined ? id : familyOf(id)
    this.#skipped.set(`${route.name} ${what}`, { route: route.name, what, reason })
    this.#tallies.get(id)!.isSkipped = true
    return true
  }

  /**
   * One attack, and whether the service held.
   *
   * @param way of several that lead to the same kind of finding: each is told of
   */
  check (id: FindingId, exchange: Exchange, isHeld: boolean, expected: string, got = describe(exchange), way = ''): boolean {
    const { shot: { route, as = null }, sent } = exchange
    if (exchange.isUnsent === true) return true
    if (route !== null && this.isOff(route, id)) return isHeld
    const doubt = isHeld || exchange.status === TOO_MANY || exchange.status === CLOSED ? this.#doubtOf(id, exchange) : null
    if (doubt !== null) {
      this.unproven(route!, id, doubt)
      return true
    }
    const tally = this.#tallies.get(id)!
    tally.tried += 1
    if (isHeld && !this.#isLedAlike(id, exchange)) return true
    const name = route?.name ?? '*'
    const key = PASSIVE.has(familyOf(id)) || id.startsWith('input') ? `${id} ${name} ${way}` : `${id} ${name} ${as} ${way}`
    if (this.#findings.has(key)) return false
    tally.found += 1
    this.#findings.set(key, { id, severity: CATALOGUE[id].severity, route: name, principal: as, expected: this.#mask.text(expected), got: this.#mask.text(got), reproduce: curlOf(this.#origin, sent, this.#mask), ...way !== '' && { way } })
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
    this.#tallies.get(id)!.unproven.add(route.name)
    this.#unproven.set(`${route.name} ${id} ${reason}`, { route: route.name, what: id, reason })
  }

  /** The run ended before its time. */
  abort (reason: string): void {
    this.#aborted = reason
  }

  notApplicable (ids: FindingId | readonly FindingId[], reason: string): void {
    for (const id of [ids].flat() as FindingId[]) this.#tallies.get(id)!.reason ??= reason
  }

  report (routes: readonly Route[], requests: number, duration: number): Report {
    const checks = FINDING_IDS.filter(id => this.#families.has(familyOf(id))).map((id): Check => {
      const { tried, found, reason, isSkipped, unproven } = this.#tallies.get(id)!
      const state = found > 0 ? 'broken' : tried > 0 ? 'held' : unproven.size > 0 || this.#aborted !== null ? 'unproven' : isSkipped ? 'skipped' : 'not applicable'
      return { id, family: familyOf(id), state, tried, found, unproven: unproven.size, ...tried === 0 && { reason: this.#aborted ?? this.#reasonOf(id) ?? reason ?? 'nothing here promises it' } }
    })
    const rank = (id: FindingId) => ['critical', 'high', 'medium', 'low'].indexOf(CATALOGUE[id].severity)
    return {
      findings: [...this.#findings.values()].sort((a, b) => rank(a.id) - rank(b.id)),
      checks,
      skipped: [...this.#skipped.values()],
      unproven: [...this.#unproven.values()],
      routes: routes.map(({ name }) => name),
      requests,
      seed: this.#options.seed ?? 1,
      duration,
      ...this.#aborted !== null && { aborted: this.#aborted },
    }
  }

  /** The first of those for which it could not be decided. */
  #reasonOf (id: FindingId): string | undefined {
    return [...this.#unproven.values()].find(({ what }) => what === id)?.reason
  }
}
