/** The authenticator app of somebody, and a second factor that is theirs. */
import { TOTP } from 'otpauth'
import type { Exchange, Person, Target } from './attack.js'

const STEP_MS = 30_000

/** The code of now, or of so many steps of 30 seconds later. */
export function codeOf (secret: string, later = 0): string {
  return new TOTP({ secret }).generate({ timestamp: Date.now() + later * STEP_MS })
}

/** Six digits that are no code of these minutes. */
export function wrongCodes (secret: string, count: number): string[] {
  const good = new Set([-2, -1, 0, 1, 2].map(later => codeOf(secret, later)))
  const codes = Array.from({ length: count + good.size }, (_none, i) => String(100_000 + i * 7919).slice(0, 6))
  return codes.filter(code => !good.has(code)).slice(0, count)
}

/** Somebody turns the second factor on. @throws Error where that fails */
export async function enrol (person: Person): Promise<{ secret: string, recoveryCodes: string[] }> {
  const { secret } = taken(await person.ask('POST', '/mfa/enroll'))
  const { recoveryCodes } = taken(await person.ask('POST', '/mfa/confirm', { json: { code: codeOf(secret) } }))
  return { secret, recoveryCodes }
}

/** Signs somebody in by password and code, from one of the attacker's machines: what is answered to the code. */
export async function signInBy (code: string, { username, password }: Person, { must, ask }: Target, machine: number): Promise<Exchange> {
  const { body: { mfaToken } } = await must(ask('POST', '/auth/login', { json: { username, password }, machine }), 401)
  return ask('POST', '/auth/mfa', { json: { mfaToken, code }, machine })
}

function taken ({ status, body, text }: Exchange): any {
  if (status !== 200) throw new Error(`the second factor was not turned on: ${status} ${text.slice(0, 200)}`)
  return body
}
