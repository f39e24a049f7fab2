/** What stops boot, and what a source says that could not be read. */
import { createError } from '@fastify/error'

/** Settings are missing or wrong; the message names every variable, and no value. */
export const SettingsRefused = createError<[string]>('FST_BASTION_SETTINGS_REFUSED', '%s', 500, TypeError)

/** A source cannot be read, and nothing of an earlier reading is good any more; the message names the source and what is wrong, and no value. */
export const SettingsUnavailable = createError<[string]>('FST_BASTION_SETTINGS_UNAVAILABLE', '%s', 500)

/** What a source could not do. Its message may be printed: a source of your own puts nothing of a value, a credential or an answer into it. */
export class SourceFault extends Error {
  /** Another attempt may go well. */
  readonly isPassing: boolean
  /** Milliseconds that the other side asks to wait. */
  readonly retryAfter: number | undefined
  /** With which it was answered. */
  readonly status: number | undefined

  constructor (message: string, { isPassing = false, retryAfter, status }: { isPassing?: boolean, retryAfter?: number, status?: number } = {}) {
    super(message)
    this.name = 'SourceFault'
    this.isPassing = isPassing
    this.retryAfter = retryAfter
    this.status = status
  }
}
