/** What was tried, what did not hold, and what could not be decided. */
import { CATALOGUE, FINDING_IDS, familyOf, type FamilyName, type FindingId } from './catalogue.js'
import type { AttackOptions, Check, Finding, Report } from './contract.js'
import { curlOf } from './curl.js'
import { describe, type Exchange } from './exchange.js'
import type { Route } from './surface.js'

interface Tally { tried: number, found: number, reason?: string, isSkipped: boolean, isUnproven: boolean }

/** Families whose findings are the same whoever asks. */
const PASSIVE: ReadonlySet<FamilyName> = new Set(['answers', 'leaks', 'limits', 'mutations', 'assignment', 'traces'])

export class Ledger {
  readonly #options: AttackOptions
  readonly #origin: string
  readonly #families: ReadonlySet<FamilyName>
  readonly #tallies = new Map<FindingId, Tally>(FINDING_IDS.map(id => [id, { tried: 0, found: 0, isSkipped: false, isUnproven: false }]))
  readonly #findings = new Map<string, Finding>()
  readonly #skipped = new Map<string, Report['skipped'][number]>()
  readonly #unproven = new Map<string, Report['unproven'][number]>()

  /** @param origin of the service, for commands */
  constructor (options: AttackOptions, origin: string, families: readonly FamilyName[]) {
    this.#options = options
    this.#origin = origin
    this.#families = new Set(families)
  }

  has (family: FamilyName): boolean {
    return this.#families.has(family)
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
    const { shot: { route, as = null, made = [] }, sent } = exchange
    if (route !== null && this.isOff(route, id)) return isHeld
    const tally = this.#tallies.get(id)!
    tally.tried += 1
    if (isHeld) return true
    const name = route?.name ?? '*'
    const key = PASSIVE.has(familyOf(id)) || id.startsWith('input') ? `${id} ${name} ${way}` : `${id} ${name} ${as} ${way}`
    if (this.#findings.has(key)) return false
    tally.found += 1
    this.#findings.set(key, { id, severity: CATALOGUE[id].severity, route: name, principal: as, expected, got, reproduce: curlOf(this.#origin, sent, as, new Set(made)) })
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

  report (routes: readonly Route[], requests: number, duration: number): Report {
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
      routes: routes.map(({ name }) => name),
      requests,
      seed: this.#options.seed ?? 1,
      duration,
    }
  }
}
