/** What an attack is: its story, its steps as HTTP, and how its success is told. The same steps go against the twin and the portal. */
import type { Person, Target } from './target.js'

/** OWASP API Security Top 10, 2023. */
export const RISKS = {
  API1: 'Broken object level authorization',
  API2: 'Broken authentication',
  API3: 'Broken object property level authorization',
  API4: 'Unrestricted resource consumption',
  API5: 'Broken function level authorization',
  API6: 'Unrestricted access to sensitive business flows',
  API7: 'Server side request forgery',
  API8: 'Security misconfiguration',
  API9: 'Improper inventory management',
  API10: 'Unsafe consumption of APIs',
} as const
export type Risk = keyof typeof RISKS

/** The other origin that may read answers of both. */
export const FRIEND = 'https://portal.example'

/** Nothing is left of what each attack of a kind uses up: it is carried out again, on servers that are new. */
export class Spent extends Error {}

export interface Attack {
  /** What is done, in a few words: `Read a stranger's document`. */
  title: string
  risk: Risk
  /** Number in the Common Weakness Enumeration. */
  cwe: number
  /** The concern of the suite that stands in the way: a name in `plugins/`. */
  concern: string
  /** What an attacker wants, and does, in a sentence or two. */
  story: string
  /** What stands in the way, in a sentence. */
  defence: string
  /** How the portal answers the decisive request. Any other refusal is no proof. */
  refusal: { status: number, code?: string }
  run: (target: Target) => Promise<Outcome>
}

export interface Outcome {
  /** Whether the attacker has what they wanted. */
  succeeded: boolean
  /** What shows it, in a line. */
  evidence: string
  /** The exchange that decides. */
  decisive: Exchange
}

/** A request and what was answered. */
export interface Exchange {
  /** What the attacker is about, as last told by `target.step`. */
  step: string
  method: string
  path: string
  requestHeaders: Record<string, string>
  requestBody: string
  status: number
  headers: Record<string, string | string[] | undefined>
  /** As text. */
  text: string
  /** Of JSON; else undefined. */
  // The attacks look into what two applications answer, of which one has no schema.

  body: any
  /** Milliseconds. */
  ms: number
}

/** What an attack needs of somebody: an account of its own, so that no attack is in the way of another. */
export type { Person, Target }
