/**
 * Links: what is sent by mail to prove that somebody reads it. Signed, timed, good for one purpose and once.
 *
 * A link is no access token and no refresh token, and nothing else takes it: its form is another one, and so is its key.
 */
import { createHmac, hkdfSync, randomBytes, timingSafeEqual } from 'node:crypto'
import { createRefusal } from '../refusal.js'
import type { MaybePromise, State } from '../state/index.js'

export interface LinkTerms {
  /** What it is good for, and for nothing else: a constant such as `reset`. */
  purpose: string
  /** Whom it concerns, such as the id of a user. */
  subject: string
  /** Seconds (default 3600). */
  lifetime?: number
  /** What must still be as it is now when the link is used, such as the hash of the password that it resets. */
  bound?: string
}

/** What is bound to a subject now; null where it is gone. */
export type BoundOf = (subject: string) => MaybePromise<string | null>

export interface Links {
  /** The text to put into a URL. */
  issue: (terms: LinkTerms) => string
  /**
   * The subject of a link that is good, without spending it. That it was spent is only seen by `redeem`.
   * @throws LinkInvalid
   */
  read: (purpose: string, text: string, boundOf?: BoundOf) => Promise<string>
  /**
   * Spends a link and answers its subject: of two that come at once, one.
   * @throws LinkInvalid where it is foreign, expired, spent, for another purpose, or bound to what has changed
   */
  redeem: (purpose: string, text: string, boundOf?: BoundOf) => Promise<string>
}

/** The link is not one of ours, or no longer good; the same for all reasons. */
export const LinkInvalid = createRefusal('FST_BASTION_TOKENS_LINK_INVALID', 'This link is not good, or no longer', 400)

const MAX_LENGTH = 1024
const FORM = /^[\w-]+\.[\w-]{43}$/
const HOUR = 3600

/** Purpose, subject, end in seconds since the epoch, number used once, tag of what it is bound to. */
type Payload = [purpose: string, subject: string, expires: number, nonce: string, bound: string]

/** @param secretsNow the first signs, all verify; other ones after a rotation */
export function makeLinks (secretsNow: () => readonly Buffer[], state: State, seconds: () => number): Links {
  let secrets: readonly Buffer[] = []
  let derived: readonly Buffer[] = []

  const mac = (key: Buffer, text: string) => createHmac('sha256', key).update(text).digest()
  const tagOf = (key: Buffer, nonce: string, bound: string | undefined) => bound === undefined ? '' : mac(key, `bound ${nonce} ${bound}`).toString('base64url')

  /** Derived from the secrets, once for each set of them. */
  function keys (): readonly Buffer[] {
    if (secrets === secretsNow()) return derived
    secrets = secretsNow()
    derived = secrets.map(secret => Buffer.from(hkdfSync('sha256', secret, '', 'fastify-bastion links', 32)))
    return derived
  }

  async function open (purpose: string, text: string, boundOf: BoundOf | undefined): Promise<Payload> {
    if (typeof text !== 'string' || text.length > MAX_LENGTH || !FORM.test(text)) throw new LinkInvalid()
    const [body, signature] = text.split('.') as [string, string]
    const key = keys().find(key => timingSafeEqual(mac(key, body), Buffer.from(signature, 'base64url')))
    if (key === undefined) throw new LinkInvalid()
    const payload = JSON.parse(Buffer.from(body, 'base64url').toString()) as Payload
    const [meant, subject, expires, nonce, tag] = payload
    if (meant !== purpose || expires <= seconds()) throw new LinkInvalid()
    const bound = boundOf === undefined ? undefined : await boundOf(subject)
    if (bound === null || tagOf(key, nonce, bound) !== tag) throw new LinkInvalid()
    return payload
  }

  return {
    issue ({ purpose, subject, lifetime = HOUR, bound }) {
      if (!(lifetime >= 1)) throw new TypeError('the lifetime of a link must be at least 1 s')
      const [key] = keys() as [Buffer]
      const nonce = randomBytes(16).toString('base64url')
      const payload: Payload = [purpose, subject, seconds() + lifetime, nonce, tagOf(key, nonce, bound)]
      const body = Buffer.from(JSON.stringify(payload)).toString('base64url')
      const text = `${body}.${mac(key, body).toString('base64url')}`
      if (text.length > MAX_LENGTH) throw new TypeError('the subject of a link is too long')
      return text
    },
    read: async (purpose, text, boundOf) => (await open(purpose, text, boundOf))[1],
    async redeem (purpose, text, boundOf) {
      const [, subject, expires, nonce] = await open(purpose, text, boundOf)
      if (!await state.claim(`links:used:${nonce}`, '1', Math.max(1, expires - seconds()) * 1000)) throw new LinkInvalid()
      return subject
    },
  }
}
