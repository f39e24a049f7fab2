/** An alert, as those who are told get it. */
import type { SecurityEvent } from '../events.js'

/** Nothing of a request is in it that is not in the log; details are in the log and in the audit trail, under `last.requestId`. */
export interface Alert {
  id: string
  /** UTC, ISO 8601. */
  time: string
  rule: string
  severity: 'critical' | 'warning'
  by: 'address' | 'principal' | 'target' | 'all' | 'function'
  /** The address, the id of the user, `login` and the hash of the name that was typed; `*` for all. */
  subject: string
  threshold: number
  windowMs: number
  /** Alerts of this rule, about others, that this process has not told since the one before: there are at most 20 a minute. Each is an `alert_raised` event. */
  untold: number
  /** The event that reached the threshold, without its details and without what the client calls itself. */
  last: Omit<SecurityEvent, 'details' | 'userAgent'>
}
