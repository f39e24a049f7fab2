/** Handshakes that come to nothing. They are no requests, and nothing limits them: all are counted, and of each kind of an address one a minute is recorded. */
import { randomUUID } from 'node:crypto'
import { addressKey } from '../address.js'
import type { SecurityEvents } from '../events.js'
import { UNGUARDED } from '../runs.js'
import type { TlsListener } from './listener.js'

export interface HandshakeParts {
  events: SecurityEvents
  countFailure: () => void
  /** Counts a certificate of a client that was refused. */
  countRefusal: () => void
  now: () => number
}

export function watchHandshakes (listener: TlsListener, { events, countFailure, countRefusal, now }: HandshakeParts): void {
  const runs = events.runs('client_certificate_refused', { ...UNGUARDED, now })
  listener.onFailure((error, socket) => {
    countFailure()
    // Node closes the connection itself where a good one is required: this is all that is ever heard of it.
    const reason = error.code === 'ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE' ? 'none' : socket.authorizationError
    if (listener.clients?.required !== true || reason === undefined || reason === null) return
    countRefusal()
    runs.record(`${addressKey(socket.remoteAddress)} ${reason}`, { id: randomUUID(), ip: socket.remoteAddress }, { reason: String(reason) })
  })
}
