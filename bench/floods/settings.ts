/** What the service that is flooded is told, and what it tells. */
import type { BastionOptions } from '../../plugins/index.js'

/** What is left out is as the suite has it. */
export interface Settings {
  algorithm?: 'HS256' | 'RS256' | 'ES256' | 'EdDSA'
  /** Algorithm of another issuer, whose tokens are taken too. */
  issuer?: string
  passwords?: BastionOptions['passwords']
  tokens?: { guesses?: number | false }
  /** Without budgets and locks, so that whatever is asked is computed. */
  isOpen?: boolean
}
export interface Serving {
  port: number
  token: string
  /** Head and claims of a token that would be good, but for its signature, which has so many bytes. */
  unsigned: string
  signatureBytes: number
}
export interface Usage { cpuMs: number, rssMb: number, waiting: number }

/** Who issues the service's own tokens, and the other one. */
export const SELF = 'https://api.example.com'
export const STRANGER = 'https://login.example.org'
export const PASSWORD = 'a right password of these people'
