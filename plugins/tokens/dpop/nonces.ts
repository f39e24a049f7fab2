/** Nonces that bind a proof to a time that the server chose (RFC 9449, 8): made of a secret and the time, so that nothing is stored. */
import { createHmac, hkdfSync } from 'node:crypto'

export interface Nonces {
  /** The one to use now. */
  current: () => string
  /** Those that are good, of each secret: the current one, the one before, and the next, which a process whose clock is ahead has given away. */
  accepted: () => readonly string[]
}

/** Seconds in which a nonce is the current one; it is good for twice as long. */
const PERIOD = 120

/** @param secretsNow the first makes them, all are accepted; other ones after a rotation */
export function makeNonces (secretsNow: () => readonly Buffer[], seconds: () => number): Nonces {
  let secrets: readonly Buffer[] = []
  let period = -1
  let good: string[] = []

  return { current: () => accepted()[0]!, accepted }

  function accepted (): readonly string[] {
    const now = Math.floor(seconds() / PERIOD)
    if (now === period && secrets === secretsNow()) return good
    period = now
    secrets = secretsNow()
    const keys = secrets.map(secret => Buffer.from(hkdfSync('sha256', secret, '', 'fastify-bastion dpop nonces', 32)))
    good = [now, now - 1, now + 1].flatMap(time => keys.map(key => createHmac('sha256', key).update(String(time)).digest('base64url').slice(0, 22)))
    return good
  }
}
