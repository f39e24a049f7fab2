/**
 * Security events: one place where every concern says what happened, and from which others learn it.
 *
 * Threat: an attack that nobody sees. Refusals that are scattered over log lines cannot be counted or alarmed on.
 * Defence: typed events with time, request, principal and reason; each becomes one structured log line, and
 * listeners (audit trail, alerts, a service's own code) receive it. What anybody can multiply is recorded once in a while, with how many there were.
 * Not covered: durability. The audit trail stands on these events and keeps them.
 */
import { createHmac, randomBytes } from 'node:crypto'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { addressKey } from './address.js'
import { planned } from './plan/index.js'
import { Runs, UNGUARDED, type RunNote, type RunTerms } from './runs.js'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Records this event for every request that this route answers with success. `durable`: the answer waits until the audit trail keeps it. */
    audit?: SecurityEventType | AuditRule
  }
  interface FastifyInstance {
    /** Records and listens to security events. */
    events: SecurityEvents
  }
  interface FastifyRequest {
    /** @internal Some event was recorded for it. */
    [told]: boolean
    /** @internal What its route declares was recorded. */
    [declared]: boolean
  }
}

export interface AuditRule {
  type: SecurityEventType
  /** The answer waits until the event is kept, and is a 503 where it cannot be (default false). Needs `audit`. */
  durable?: boolean
}

/** Names after OWASP's Logging Vocabulary; a service adds its own by augmenting this interface. */
export interface SecurityEventTypes {
  login_success: true
  login_failure: true
  login_locked: true
  mfa_enrolled: true
  mfa_disabled: true
  mfa_success: true
  mfa_failure: true
  mfa_locked: true
  recovery_code_used: true
  mfa_device_remembered: true
  passkey_added: true
  passkey_removed: true
  passkey_cloned: true
  key_created: true
  key_rotated: true
  key_revoked: true
  key_refused: true
  session_started: true
  session_ended: true
  logout: true
  token_issued: true
  token_reused: true
  token_revoked: true
  proof_replayed: true
  password_change: true
  permission_change: true
  access_denied: true
  csrf_refused: true
  rate_limited: true
  limit_reset: true
  malformed_request: true
  card_refused: true
  outbound_refused: true
  untrusted_host: true
  plain_http_refused: true
  violation_reported: true
  undeclared_answer: true
  state_full: true
  overload_started: true
  overload_ended: true
  state_away: true
  state_back: true
  state_unconfirmed: true
  upload_stored: true
  upload_refused: true
  upload_removed: true
  decryption_failed: true
  encryption_exhausted: true
  encryption_rotated: true
  data_access: true
  data_modification: true
  account_unlocked: true
  audit_away: true
  audit_back: true
  audit_lost: true
  audit_broken: true
  alert_raised: true
  alert_undelivered: true
  data_exported: true
  data_erased: true
  data_purged: true
  erasure_delayed: true
  purge_failed: true
  consent_given: true
  consent_withdrawn: true
  certificate_expiring: true
  certificate_invalid: true
  certificate_refused: true
  certificate_reloaded: true
  client_certificate_refused: true
  deprecated_use: true
}

export type SecurityEventType = keyof SecurityEventTypes & string

export interface SecurityEvent {
  type: SecurityEventType
  /** UTC, ISO 8601. */
  time: string
  requestId?: string
  method?: string
  /** The route's pattern, never the URL with its parameters. */
  route?: string
  address?: string
  userAgent?: string
  /** Id of the principal, where one is known. */
  principal?: string
  /** The user on whose behalf it acts, and how that was proven. */
  user?: string
  via?: string
  /** The object that the route loaded. */
  resource?: { type: string, id?: string }
  /** The answer waits until this is kept. */
  promised?: true
  /** What happened and why: no secrets, no request bodies. `times`: how many like ones it stands for. */
  details: Record<string, unknown>
}

/** What is known of a request that was no HTTP. */
export interface UnparsedRequest { id: string, ip?: string }

export interface SecurityEvents {
  /** Records an event: logs it at `warn` (at `info` for successes) and hands it to every listener. */
  record: (type: SecurityEventType, request: FastifyRequest | UnparsedRequest | null, details?: Record<string, unknown>, options?: { promised?: boolean }) => void
  /**
   * Records what comes before anything limits it: of an address the first, then at most one of a type and `code` in a minute, with how many there were
   * (`times`). What is there no room for in memory is one event for all addresses (`shared`).
   */
  recordUnguarded: (type: SecurityEventType, request: FastifyRequest | UnparsedRequest, details?: Record<string, unknown>) => void
  /** Events of one type that are recorded once in a while; the others are counted. */
  runs: (type: SecurityEventType, terms: RunTerms) => EventRuns
  /** Records what was counted and is not told yet, as it happens by itself when a run is over, and at close. */
  flush: () => void
  /** Adds a listener; returns the function that removes it. Nobody waits for it; what it throws is logged and goes no further. */
  listen: (listener: SecurityListener) => () => void
  /** What stands for a name that somebody typed: people type passwords there. A keyed hash; by default the key is this process's alone. */
  nameOf: (typed: string) => string
  /** Sets the key of {@link nameOf}, so that a name is the same in all processes and after a restart. */
  keyNames: (key: Buffer) => void
}

export interface EventRuns {
  /** @param key what makes them alike */
  record: (key: string, request: FastifyRequest | UnparsedRequest | null, details: Record<string, unknown>, note?: RunNote) => void
  /** What comes next under this key is recorded. */
  forget: (key: string) => void
}

/** `request`: the one during which it happened, where there was one and it could be read. */
export type SecurityListener = (event: SecurityEvent, request: FastifyRequest | null) => unknown

/** Characters that are kept of a user agent. */
const MAX_USER_AGENT = 256
const told = Symbol('bastion.events.told')
const declared = Symbol('bastion.events.declared')

const ROUTINE: ReadonlySet<SecurityEventType> = new Set<SecurityEventType>([
  'login_success', 'mfa_enrolled', 'mfa_success', 'mfa_device_remembered', 'passkey_added', 'key_created', 'key_rotated', 'session_started', 'session_ended', 'logout', 'token_issued', 'password_change', 'upload_stored', 'upload_removed', 'encryption_rotated', 'data_access', 'data_modification', 'data_exported', 'data_erased', 'data_purged', 'consent_given', 'consent_withdrawn', 'account_unlocked', 'audit_back', 'certificate_reloaded', 'deprecated_use',
])

let clock = { at: 0, text: '' }

async function events (app: FastifyInstance): Promise<void> {
  const listeners = new Set<SecurityListener>()
  const begun: { flush: () => void }[] = []
  const unguarded = new Map<SecurityEventType, EventRuns>()
  let nameKey = randomBytes(32)

  app.decorateRequest(told as never, false as never)
  app.decorateRequest(declared as never, false as never)
  app.decorate('events', {
    record (type, request, details = {}, { promised = false } = {}) {
      const event = compose(type, request, details)
      if (promised) event.promised = true
      publish(event, request)
    },
    recordUnguarded (type, request, details = {}) {
      let runs = unguarded.get(type)
      if (runs === undefined) unguarded.set(type, runs = app.events.runs(type, UNGUARDED))
      runs.record(`${addressKey(request.ip)} ${details.code}`, request, details)
    },
    runs (type, terms) {
      const runs = new Runs<FastifyRequest | UnparsedRequest | null, SecurityEvent>({
        compose: (request, details) => compose(type, request, details),
        publish,
        leave (request) { if (isParsed(request)) request[told] = true },
      }, terms)
      begun.push(runs)
      return runs
    },
    flush () { for (const runs of begun) runs.flush() },
    listen (listener) {
      listeners.add(listener)
      return () => { listeners.delete(listener) }
    },
    nameOf: typed => createHmac('sha256', nameKey).update(typed).digest('base64url').slice(0, 22),
    keyNames (key) { nameKey = Buffer.from(key) },
  })

  app.addHook('onClose', async function tellWhatIsCounted () { app.events.flush() })

  function publish (event: SecurityEvent, request: FastifyRequest | UnparsedRequest | null): void {
    const parsed = isParsed(request) ? request : null
    const log = parsed?.log ?? app.log
    if (ROUTINE.has(event.type)) log.info({ event }, event.type)
    else log.warn({ event }, event.type)
    for (const listener of listeners) tell(listener, event, parsed)
  }

  /** An asynchronous listener is not awaited, and its rejection must not end the process. */
  function tell (listener: SecurityListener, event: SecurityEvent, request: FastifyRequest | null): void {
    const complain = (error: unknown) => app.log.error({ err: error }, 'a security event listener failed')
    try {
      const answer = listener(event, request)
      if (answer instanceof Promise) answer.catch(complain)
    } catch (error) {
      complain(error)
    }
  }

  // Once the answer is what it will be, and before any of it leaves: who hangs up early has read it all the same.
  app.plan.contribute({
    concern: 'audit',
    stage: 'keep',
    compile (route) {
      const rule = (route.options.config as { audit?: SecurityEventType | AuditRule } | undefined)?.audit
      if (rule === undefined) return { step: recordUnnamedRefusal }
      const { type, durable = false } = typeof rule === 'string' ? { type: rule } : rule ?? {} as AuditRule
      if (typeof type !== 'string' || typeof durable !== 'boolean') route.object("audit: write the name of the event that its success is, such as 'data_access', or { type: 'data_access', durable: true }")
      if (durable && !app.hasDecorator('audit')) route.object('audit: durable needs the audit plugin, which keeps events')
      return { step: recordDeclared(type, durable), promise: durable ? { type, durable } : type }
    },
  })
  // What was written past Fastify has no answer that could have waited.
  app.plan.contribute({
    concern: 'audit-hijacked',
    stage: 'record',
    touches: ({ options }) => (options.config as { audit?: unknown } | undefined)?.audit !== undefined,
    compile (route) {
      const rule = (route.options.config as { audit?: SecurityEventType | AuditRule } | undefined)?.audit
      return rule === undefined ? undefined : { step: recordDeclared(typeof rule === 'string' ? rule : rule?.type, false) }
    },
  })

  function recordDeclared (type: SecurityEventType, promised: boolean) {
    return function recordWhatCameOfIt (request: FastifyRequest, reply: FastifyReply): void {
      recordUnnamedRefusal(request, reply)
      if (request[declared] || reply.statusCode >= 400) return
      request[declared] = true
      app.events.record(type, request, { status: reply.statusCode }, { promised })
    }
  }

  /** Every 401 and 403 is an event, also one that no concern has recorded itself. */
  function recordUnnamedRefusal (request: FastifyRequest, reply: FastifyReply): void {
    const { statusCode: status } = reply
    if ((status === 401 || status === 403) && !request[told]) app.events.record('access_denied', request, { reason: 'refused by its handler', status })
  }
}

function compose (type: SecurityEventType, request: FastifyRequest | UnparsedRequest | null, details: Record<string, unknown>): SecurityEvent {
  const event: SecurityEvent = { type, time: isoNow(), details }
  if (request !== null) {
    event.requestId = request.id
    event.address = request.ip
  }
  if (isParsed(request)) describe(event, request)
  return event
}

/** Made once a millisecond: a flood of refusals has many events in one. */
function isoNow (): string {
  const now = Date.now()
  if (now !== clock.at) clock = { at: now, text: new Date(now).toISOString() }
  return clock.text
}

function isParsed (request: FastifyRequest | UnparsedRequest | null): request is FastifyRequest {
  return request !== null && 'raw' in request
}

function describe (event: SecurityEvent, request: FastifyRequest): void {
  request[told] = true
  event.method = request.method
  event.route = request[planned]?.url ?? '*'
  const userAgent = request.headers['user-agent']
  if (userAgent !== undefined) event.userAgent = userAgent.slice(0, MAX_USER_AGENT)
  const { principal, resource } = request as { principal?: { id: string, userId: string, via: string } | null, resource?: unknown }
  if (principal !== null && principal !== undefined) Object.assign(event, { principal: principal.id, user: principal.userId, via: principal.via })
  if (resource !== null && resource !== undefined) event.resource = nameResource(request, resource)
}

function nameResource (request: FastifyRequest, resource: unknown): SecurityEvent['resource'] {
  const { access } = request.routeOptions.config as { access?: { resource?: string } | string }
  const type = typeof access === 'object' ? access.resource : undefined
  const { id } = resource as { id?: unknown }
  return type === undefined ? undefined : { type, ...(typeof id === 'string' || typeof id === 'number') && { id: String(id) } }
}

export default fp(events, { fastify: '5.x', name: 'bastion-events', dependencies: ['bastion-plan'] })
