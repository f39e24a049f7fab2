/**
 * Security events: one place where every concern says what happened, and from which others learn it.
 *
 * Threat: an attack that nobody sees. Refusals that are scattered over log lines cannot be counted or alarmed on.
 * Defence: typed events with time, request, principal and reason; each becomes one structured log line, and
 * listeners (audit trail, alerts, a service's own code) receive it.
 * Not covered: durability. The audit trail stands on these events and keeps them.
 */
import type { FastifyInstance, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { planned } from './plan/index.js'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Records this event for every request that this route answers with success. */
    audit?: SecurityEventType
  }
  interface FastifyInstance {
    /** Records and listens to security events. */
    events: SecurityEvents
  }
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
  alert_raised: true
  alert_undelivered: true
  data_exported: true
  data_erased: true
  data_purged: true
  erasure_delayed: true
  purge_failed: true
  consent_given: true
  consent_withdrawn: true
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
  /** Id of the principal, where one is known. */
  principal?: string
  /** What happened and why: no secrets, no request bodies. */
  details: Record<string, unknown>
}

/** What is known of a request that was no HTTP. */
export interface UnparsedRequest { id: string, ip?: string }

export interface SecurityEvents {
  /** Records an event: logs it at `warn` (at `info` for successes) and hands it to every listener. */
  record: (type: SecurityEventType, request: FastifyRequest | UnparsedRequest | null, details?: Record<string, unknown>) => void
  /** Adds a listener; returns the function that removes it. Nobody waits for it; what it throws is logged and goes no further. */
  listen: (listener: (event: SecurityEvent) => unknown) => () => void
}

const ROUTINE: ReadonlySet<SecurityEventType> = new Set<SecurityEventType>([
  'login_success', 'mfa_enrolled', 'mfa_success', 'mfa_device_remembered', 'passkey_added', 'key_created', 'key_rotated', 'session_started', 'session_ended', 'logout', 'token_issued', 'password_change', 'upload_stored', 'upload_removed', 'encryption_rotated', 'data_access', 'data_modification', 'data_exported', 'data_erased', 'data_purged', 'consent_given', 'consent_withdrawn',
])

async function events (app: FastifyInstance): Promise<void> {
  const listeners = new Set<(event: SecurityEvent) => unknown>()

  app.decorate('events', {
    record (type, request, details = {}) {
      const event: SecurityEvent = { type, time: new Date().toISOString(), details }
      if (request !== null) {
        event.requestId = request.id
        event.address = request.ip
      }
      const parsed = request !== null && 'raw' in request ? request : null
      if (parsed !== null) {
        event.method = parsed.method
        event.route = parsed[planned]?.url ?? '*'
        const { principal } = parsed as { principal?: { id: string } | null }
        if (principal !== null && principal !== undefined) event.principal = principal.id
      }
      const log = parsed?.log ?? app.log
      if (ROUTINE.has(type)) log.info({ event }, type)
      else log.warn({ event }, type)
      for (const listener of listeners) tell(listener, event)
    },
    listen (listener) {
      listeners.add(listener)
      return () => { listeners.delete(listener) }
    },
  })

  /** An asynchronous listener is not awaited, and its rejection must not end the process. */
  function tell (listener: (event: SecurityEvent) => unknown, event: SecurityEvent): void {
    const complain = (error: unknown) => app.log.error({ err: error }, 'a security event listener failed')
    try {
      const answer = listener(event)
      if (answer instanceof Promise) answer.catch(complain)
    } catch (error) {
      complain(error)
    }
  }

  app.plan.contribute({
    concern: 'audit',
    stage: 'record',
    compile (route) {
      const type = (route.options.config as { audit?: SecurityEventType } | undefined)?.audit
      if (type === undefined) return undefined
      if (typeof type !== 'string') route.object("audit: write the name of the event that its success is, such as 'data_access'")
      return {
        step (request, reply) {
          if (reply.statusCode < 400) app.events.record(type, request, { status: reply.statusCode })
        },
        promise: type,
      }
    },
  })
}

export default fp(events, { fastify: '5.x', name: 'bastion-events', dependencies: ['bastion-plan'] })
