/** What goes wrong with requests to URLs that users give. */
import { createError } from '@fastify/error'
import { createRefusal } from '../refusal.js'

/** An option of the outbound concern, or of one of its requests, is wrong. */
export const OutboundMisconfigured = createError<[string]>('FST_BASTION_OUTBOUND_MISCONFIGURED', '%s', 500, TypeError)
/**
 * The one answer to whatever stands against a URL, so that nobody maps a network by it: refused, away, late and too large are the same. Which it was stands in the log, and in
 * the `reason` of the `cause`, an `OutboundFault`.
 */
export const OutboundRefused = createRefusal('FST_BASTION_OUTBOUND_REFUSED', 'This address cannot be reached from here', 400)

/** What was against it. */
export type OutboundReason =
  /** No absolute http or https URL, or longer than 2048 characters. */
  | 'url' |
  /** Neither https nor, where that is switched on, http. */
  'protocol' | 'credentials' | 'port' |
  /** No hostname of RFC 1123, or not on the list of hosts. */
  'host' |
  /** One of its addresses is none that everybody can reach. */
  'address' |
  /** A redirect from https to http, or one too many. */
  'redirect' |
  /** The name is not known. */
  'unresolved' |
  /** No connection, no trusted certificate, no whole answer. */
  'unreachable' |
  /** The body is larger than it may be. */
  'too-large' |
  'timeout' | 'aborted'

/** Reasons that are no refusal of ours: the other side, or time, failed. */
const FAILURES: ReadonlySet<OutboundReason> = new Set<OutboundReason>(['unresolved', 'unreachable', 'too-large', 'timeout', 'aborted'])

export class OutboundFault extends Error {
  readonly reason: OutboundReason
  /** For the log: nothing of paths, queries or credentials. */
  readonly details: Readonly<Record<string, unknown>>

  constructor (reason: OutboundReason, details: Record<string, unknown> = {}, cause?: unknown) {
    super(`outbound: ${reason}`, { cause })
    this.name = 'OutboundFault'
    this.reason = reason
    this.details = details
  }

  /** True where the guard refused it, false where it only failed. */
  get isRefusal (): boolean {
    return !FAILURES.has(this.reason)
  }
}
