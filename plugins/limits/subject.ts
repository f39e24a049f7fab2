/**
 * Subjects: who spends a budget, as text.
 *
 * Each kind has a prefix of its own and the separator is escaped in every part, so that no text that a client or a
 * service chooses can name the budget of somebody else.
 */
import { createHash } from 'node:crypto'
import type { FastifyRequest } from 'fastify'
import { addressKey } from '../address.js'
import { answerOf, refuseAsync } from './callback.js'
import { LimitsMisconfigured } from './errors.js'

/** One thing by which requests are told apart. */
export type SubjectPart = 'caller' | 'principal' | 'address' | 'key' | 'plan' | 'route' | 'method' | ((request: FastifyRequest) => string)
/** Who shares a budget: one part, or several that must all be the same. */
export type By = SubjectPart | readonly SubjectPart[]
export type SubjectOf = (request: FastifyRequest) => string

/** Longer texts are kept as their hash: a client that chooses its own must not choose how much is kept of it. */
const MAX_TEXT = 128
const SEPARATOR = '|'

let last: { ip: string | undefined, text: string } = { ip: undefined, text: 'address:unknown' }

/**
 * How a subject is written, for operators: `subjects.address('203.0.113.9')` is `address:203.0.113.9`, and
 * `subjects.all(subjects.user('ada'), subjects.method('GET'))` is `user:ada|method:GET`.
 */
export const subjects = {
  /** An address, by its network. */
  address (ip: string | undefined) {
    // Flood guard and limits ask for the same one in turn.
    if (last.ip !== ip) last = { ip, text: write('address', addressKey(ip)) }
    return last.text
  },
  /** A user, by id. */
  user: (id: string) => write('user', id),
  /** What an API key spends as a caller, by the principal's id. */
  key: (id: string) => write('key', id),
  /** The budget of an API key alone (`by: 'key'`), by the id of the credential. */
  credential: (id: string) => write('credential', id),
  /** All callers of a plan together. */
  plan: (name: string) => write('plan', name),
  /** Everybody together, by `GET /search`. */
  route: (methodAndUrl: string) => write('route', methodAndUrl),
  /** A HEAD counts as a GET. */
  method: (name: string) => write('method', name === 'HEAD' ? 'GET' : name),
  /** What a function of the service answers, and what `app.limits.check` is given. What is an address counts by its network. */
  custom: (text: string) => write('custom', text.includes(':') ? addressKey(text) : text),
  /** Several parts together, in the order of `by`. */
  all: (...parts: readonly string[]) => parts.join(SEPARATOR),
} as const

/** A subject as an operator wrote it: its addresses count by their networks. */
export function subjectWritten (text: string): string {
  return text.split(SEPARATOR).map(part => part.replace(/^(address|custom):(.*)$/s, (_all, kind: string, address: string) => `${kind}:${addressKey(address)}`)).join(SEPARATOR)
}

export function callerOf ({ principal, ip }: FastifyRequest): string {
  return principal === null ? subjects.address(ip) : write(principal.kind, principal.id)
}

const PARTS: Record<Exclude<SubjectPart, 'route' | ((...parts: never[]) => unknown)>, SubjectOf> = {
  caller: callerOf,
  principal: callerOf,
  address: ({ ip }) => subjects.address(ip),
  key: request => request.principal?.kind === 'key' ? subjects.credential(request.principal.credentialId) : callerOf(request),
  plan: request => typeof request.principal?.plan === 'string' ? subjects.plan(request.principal.plan) : callerOf(request),
  method: ({ method }) => subjects.method(method),
}

/**
 * One function that says who a request is.
 *
 * @param route what everybody on this route shares
 * @throws LimitsMisconfigured
 */
export function subjectOf (by: By, route: string): SubjectOf {
  const parts = [by].flat() as SubjectPart[]
  const isList = parts.length > 0 && parts.length <= 8 && new Set(parts).size === parts.length
  if (!isList) throw new LimitsMisconfigured('limits: by: a list needs one to eight parts, each of them once')
  const [first, second, ...more] = parts.map(part => compilePart(part, route)) as [SubjectOf, ...SubjectOf[]]
  if (second === undefined) return first
  if (more.length === 0) return request => `${first(request)}${SEPARATOR}${second(request)}`
  return request => subjects.all(first(request), second(request), ...more.map(part => part(request)))
}

function compilePart (part: SubjectPart, route: string): SubjectOf {
  if (typeof part === 'function') return customSubject(part)
  if (part === 'route') {
    const everybody = subjects.route(route)
    return () => everybody
  }
  if (Object.hasOwn(PARTS, part)) return PARTS[part]
  const known = [...Object.keys(PARTS), 'route'].join(', ')
  throw new LimitsMisconfigured(`limits: by: ${JSON.stringify(part)} is unknown: write ${known}, a function of the request, or a list of these`)
}

/** An answer that is empty or no text counts with the caller's address. */
function customSubject (by: (request: FastifyRequest) => string): SubjectOf {
  refuseAsync('by', by)
  return request => {
    const answer = answerOf(by(request))
    return typeof answer === 'string' && answer !== '' ? subjects.custom(answer) : subjects.address(request.ip)
  }
}

/** For people: functions have no name that would tell anything. */
export function describeBy (by: By): string | string[] {
  const nameOf = (part: SubjectPart) => typeof part === 'function' ? 'custom' : part
  return Array.isArray(by) ? by.map(nameOf) : nameOf(by as SubjectPart)
}

function write (kind: string, text: string): string {
  if (text.length > MAX_TEXT) return `${kind}-sha256:${createHash('sha256').update(text).digest('base64url')}`
  return text.includes(SEPARATOR) || text.includes('%') ? `${kind}:${text.replaceAll('%', '%25').replaceAll(SEPARATOR, '%7C')}` : `${kind}:${text}`
}
