/** Rules: which events are counted, by what, and from how many on somebody is told. */
import { Type, type Static } from '@sinclair/typebox'
import { addressKey } from '../address.js'
import type { SecurityEvent, SecurityEventType } from '../events.js'

const SUBJECTS = ['address', 'principal', 'target', 'all'] as const
const MINUTE = 60_000
/** What is counted exactly costs a place for each. */
const MAX_THRESHOLD = 10_000

const tunable = {
  threshold: Type.Integer({ minimum: 1, maximum: MAX_THRESHOLD, description: 'From how many on, within the window' }),
  windowMs: Type.Integer({ minimum: 1, description: 'Milliseconds' }),
  quietMs: Type.Integer({ minimum: 0, description: 'Milliseconds for which the same is not told again; default: those of the window' }),
  severity: Type.Union([Type.Literal('critical'), Type.Literal('warning')]),
}
const By = Type.Union(SUBJECTS.map(name => Type.Literal(name)))
export const AlertRule = Type.Object({
  name: Type.String({ pattern: '^[a-z][a-z0-9_]{1,63}$' }),
  events: Type.Union([Type.Literal('*'), Type.Array(Type.String({ minLength: 1 }), { minItems: 1 })]),
  where: Type.Optional(Type.Function([Type.Any()], Type.Boolean())),
  by: Type.Union([...SUBJECTS.map(name => Type.Literal(name)), Type.Function([Type.Any()], Type.Any())]),
  distinct: Type.Optional(By),
  ...tunable,
  quietMs: Type.Optional(tunable.quietMs),
  severity: Type.Optional(tunable.severity),
}, { additionalProperties: false })

/** Whom an event is about. */
export type AlertSubject = typeof SUBJECTS[number]

/** Tells when `threshold` events of one subject come within `windowMs`. */
export interface AlertRule {
  /** Snake case, and no other rule's. */
  name: string
  /** `'*'`: of every type. */
  events: readonly SecurityEventType[] | '*'
  /** Which of them; all by default. */
  where?: (event: SecurityEvent) => boolean
  /**
   * Each of these is counted for itself: `address` (IPv6 by its /64), `principal` (the user who did it, by whichever of their keys), `target` (the account it was done to: the hash of the name that was typed, or the user's
   * id), `all` (everything together), or what a function says. Where an event has none (null), it is not counted.
   */
  by: AlertSubject | ((event: SecurityEvent) => string | null)
  /** Counts how many different ones of these there are, and not how many events: names that one address tries. The window begins with the first of them. */
  distinct?: AlertSubject
  threshold: number
  windowMs: number
  /** Default: `windowMs`. With 0 each event is told once the threshold is reached. */
  quietMs?: number
  /** Default: `warning`. */
  severity?: 'critical' | 'warning'
}

/** A rule with its defaults. */
export type SettledRule = Required<Omit<AlertRule, 'where' | 'distinct'>> & Pick<AlertRule, 'where' | 'distinct'>

const Tuned = Type.Union([Type.Literal(false), Type.Partial(Type.Object(tunable), { additionalProperties: false })])

const GUESSES = ['login_failure', 'login_locked', 'mfa_failure', 'mfa_locked'] as const

/** What comes with the suite; each can be tuned, or switched off, by its name. */
const BUILT_IN = {
  brute_force_account: { events: GUESSES, by: 'target', threshold: 10, windowMs: 15 * MINUTE, quietMs: 60 * MINUTE, severity: 'critical' },
  brute_force_address: { events: GUESSES, by: 'address', threshold: 50, windowMs: 15 * MINUTE, quietMs: 60 * MINUTE, severity: 'critical' },
  credential_stuffing: { events: ['login_failure', 'login_locked'], by: 'address', distinct: 'target', threshold: 10, windowMs: 15 * MINUTE, quietMs: 60 * MINUTE, severity: 'critical' },
  distributed_guessing: { events: ['login_failure', 'login_locked'], by: 'target', distinct: 'address', threshold: 10, windowMs: 15 * MINUTE, quietMs: 60 * MINUTE, severity: 'critical' },
  address_locked: { events: ['login_locked'], by: 'address', threshold: 1, windowMs: 15 * MINUTE, quietMs: 15 * MINUTE, severity: 'critical' },
  token_reuse: { events: ['token_reused'], by: 'target', threshold: 1, windowMs: 5 * MINUTE, quietMs: 5 * MINUTE, severity: 'critical' },
  privilege_change: { events: ['permission_change'], by: 'target', threshold: 1, windowMs: MINUTE, quietMs: 0, severity: 'critical' },
  mass_export: { events: ['data_access', 'data_exported'], by: 'principal', threshold: 200, windowMs: 10 * MINUTE, quietMs: 60 * MINUTE, severity: 'critical' },
  probing: { events: ['access_denied', 'key_refused'], by: 'principal', threshold: 50, windowMs: 10 * MINUTE, quietMs: 60 * MINUTE, severity: 'warning' },
  cross_site_requests: { events: ['csrf_refused'], by: 'address', threshold: 20, windowMs: 15 * MINUTE, quietMs: 60 * MINUTE, severity: 'warning' },
  critical_event: { events: '*', by: byType, threshold: 1, windowMs: 15 * MINUTE, quietMs: 15 * MINUTE, severity: 'critical' },
} as const satisfies Record<string, Omit<AlertRule, 'name' | 'where'>>

export type BuiltInRule = keyof typeof BUILT_IN
const NAMES = Object.keys(BUILT_IN) as BuiltInRule[]

export const BuiltInRules = Type.Partial(Type.Object(Object.fromEntries(NAMES.map(name => [name, Tuned])) as Record<BuiltInRule, typeof Tuned>), { additionalProperties: false })
export type BuiltInRules = Static<typeof BuiltInRules>

/** Critical ones that have a rule of their own: what is switched off there is not told here. */
const TOLD_ELSEWHERE: ReadonlySet<string> = new Set(['login_locked', 'token_reused'])

/** The rules of the suite, tuned. */
export function builtInRules (tuned: BuiltInRules, adminRoles: readonly string[]): AlertRule[] {
  const where: Partial<Record<BuiltInRule, AlertRule['where']>> = {
    address_locked: ({ details }) => [details.locks].flat().includes('address'),
    privilege_change: ({ details }) => [details.to].flat().some(role => adminRoles.includes(role as string)),
    critical_event: ({ type, details }) => details.severity === 'critical' && !TOLD_ELSEWHERE.has(type),
  }
  return NAMES.filter(name => tuned[name] !== false).map(name => ({ name, ...where[name] !== undefined && { where: where[name] }, ...BUILT_IN[name], ...tuned[name] }))
}

export function settleRule (rule: AlertRule): SettledRule {
  return { quietMs: rule.windowMs, severity: 'warning', ...rule }
}

/** What an event is counted by; null where it has none. */
export function subjectOf (by: SettledRule['by'], event: SecurityEvent): string | null {
  if (typeof by === 'function') return by(event)
  if (by === 'all') return '*'
  if (by === 'address') return event.address === undefined ? null : addressKey(event.address)
  // Of keys everybody makes as many as they like.
  if (by === 'principal') return event.user ?? event.principal ?? null
  // A lock knows the name alone, a failure perhaps the user too: by the name they are one.
  const { login, user } = event.details
  return typeof login === 'string' ? `login ${login}` : typeof user === 'string' ? user : null
}

function byType (event: SecurityEvent): string {
  return `${event.type} ${subjectOf('target', event) ?? subjectOf('address', event) ?? '*'}`
}
