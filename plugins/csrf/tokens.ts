/** Tokens: what a page of ours shows, together with a cookie that only it was given, in the session that it was made for. */
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'

/** What every kind of cookie credential says of a request. */
export type Binding = readonly (string | null)[]

interface Terms {
  /** The first makes, all verify. */
  keys: readonly Buffer[]
  /** Seconds. */
  lifetime: number
  /** Milliseconds since the epoch. */
  now: () => number
}

const PURPOSE = 'fastify-bastion csrf'
const COOKIE_BYTES = 24
const COOKIE = /^[\w-]{32}$/
/** Second of issue in base 36, random part, HMAC. */
const TOKEN = /^([0-9a-z]{1,9})\.([\w-]{22})\.([\w-]{43})$/

export function tokensOf ({ keys, lifetime, now }: Terms) {
  return {
    make (binding: Binding, cookie: string): string {
      const issued = Math.floor(now() / 1000).toString(36)
      const random = randomBytes(16).toString('base64url')
      return `${issued}.${random}.${macOf(keys[0]!, binding, cookie, issued, random)}`
    },
    /** Why it is not good here; null where it is. */
    faultOf (binding: Binding, cookie: string, token: unknown): string | null {
      const parts = typeof token === 'string' ? TOKEN.exec(token) : null
      if (parts === null) return 'malformed token'
      const [, issued, random, mac] = parts as unknown as [string, string, string, string]
      // Compared as text: another spelling of the same bytes is another token.
      const text = Buffer.from(mac)
      if (!keys.some(key => timingSafeEqual(Buffer.from(macOf(key, binding, cookie, issued, random)), text))) return 'token of another session, cookie or key'
      return now() / 1000 - parseInt(issued, 36) >= lifetime ? 'expired token' : null
    },
  }
}

export function newCookie (): string {
  return randomBytes(COOKIE_BYTES).toString('base64url')
}

/** The value of the cookie of this name; null where there is none of our form. */
export function cookieIn (header: string | undefined, name: string): string | 'several' | null {
  if (header === undefined) return null
  const found = header.split(';').map(pair => pair.trim()).filter(pair => pair.startsWith(`${name}=`))
  if (found.length > 1) return 'several'
  const value = found[0]?.slice(name.length + 1) ?? ''
  return COOKIE.test(value) ? value : null
}

/** As JSON, so that no part can be taken for another. */
function macOf (key: Buffer, binding: Binding, cookie: string, issued: string, random: string): string {
  return createHmac('sha256', key).update(JSON.stringify([PURPOSE, binding, cookie, issued, random])).digest('base64url')
}
