/** What the sessions concern offers, and how it is set up. */
import type { FastifyRequest } from 'fastify'
import { Type, type Static } from '@sinclair/typebox'
import type { Device } from './devices.js'

/** What a service says of the one who signed in. */
export interface SessionSubject {
  id: string
  roles: readonly string[]
  plan?: string
  /** When the person proved themselves, in seconds since the epoch; default: now. */
  authTime?: number
  /** What they showed (RFC 8176). */
  amr?: readonly string[]
}

/** Looks the user up again, so that changed roles and closed accounts count; null refuses. */
export type SessionLoader = (userId: string) => Promise<Omit<SessionSubject, 'authTime' | 'amr'> | null>

export interface StartOptions {
  load?: SessionLoader
  /** What goes on of the data of the session before. */
  keep?: readonly string[]
}

export interface RenewOptions {
  load?: SessionLoader
  /** Seconds since the epoch. */
  authTime?: number
  /** What was shown (RFC 8176): with `authTime` only what is named here counts as shown then. */
  amr?: readonly string[]
}

export interface Sessions {
  /**
   * Signs in: a session with a fresh id, whose cookie goes out with the answer. The session that the request came with has
   * ended; of its data only what `keep` names goes on. With `load` the subject is looked up once more, after the moment
   * from which the session counts: a role that changed while the password was checked ends it too.
   * @throws SessionInvalid (401) where `load` finds nobody
   */
  start: (request: FastifyRequest, subject: SessionSubject, options?: StartOptions) => Promise<void>
  /**
   * A fresh id for the session of this request, for after a change of rights or a step-up: the old id is dead, the data and
   * the absolute lifetime stay. `authTime` (seconds) and `amr` say what was proven now; `load` looks the user up anew.
   * @throws SessionInvalid (401) where there is none, where it was ended meanwhile, or where `load` finds nobody
   */
  renew: (request: FastifyRequest, options?: RenewOptions) => Promise<void>
  /** Signs out: the session of this request ends, and its cookie is taken back. */
  end: (request: FastifyRequest) => Promise<void>
  /** Where a user is signed in, the oldest first. */
  list: (userId: string) => Promise<Device[]>
  /** Ends one of a user's sessions; false where it is none of theirs. */
  endOne: (userId: string, sessionId: string) => Promise<boolean>
  /** Ends all of a user's sessions; `except` is the `credentialId` of the principal that stays. */
  endAll: (userId: string, options?: { except?: string }) => Promise<void>
}

export const SessionsOptions = Type.Object({
  name: Type.Optional(Type.String({ pattern: '^[A-Za-z0-9_-]{1,64}$', description: 'Name of the cookie; over HTTPS `__Host-` stands before it', default: 'session' })),
  secure: Type.Optional(Type.Boolean({ description: '`false` only for plain HTTP in development: the cookie has neither `Secure` nor the `__Host-` prefix', default: true })),
  sameSite: Type.Optional(Type.Union([Type.Literal('lax'), Type.Literal('strict')], { description: '`strict`: links from elsewhere arrive signed out', default: 'lax' })),
  persistent: Type.Optional(Type.Boolean({ description: 'The cookie outlives the browser, until the absolute lifetime', default: false })),
  idleTtl: Type.Optional(Type.Integer({ minimum: 10, description: 'Seconds without a request until it ends', default: 1800 })),
  absoluteTtl: Type.Optional(Type.Integer({ minimum: 10, description: 'Seconds from the sign-in until it ends at the latest', default: 43_200 })),
  perUser: Type.Optional(Type.Integer({ minimum: 1, maximum: 1000, description: 'Sessions of one user: of more the oldest ends', default: 50 })),
  deadline: Type.Optional(Type.Integer({ minimum: 1, description: 'Milliseconds that shared state may take to answer, else 503; default: that of state' })),
}, { additionalProperties: false })
export type SessionsOptions = Static<typeof SessionsOptions> & {
  /** Signs the cookie: 32 bytes or more. Of several the first signs and all verify. */
  secret: Buffer | readonly Buffer[]
  /** Milliseconds since the epoch; for tests. */
  now?: () => number
}
