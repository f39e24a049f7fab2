/** Callers: what each sends, and what the policy makes of it. */
import type { FindingId } from './catalogue.js'
import type { PolicyAccess, Principal, Principals } from './contract.js'
import type { Route, Surface } from './surface.js'

/** A principal, as it calls. */
export interface Caller {
  name: string
  principal: Principal
  headers: (method: string) => Record<string, string>
}

/** What the policy says of a caller on a route, apart from whose the object is. */
export type Verdict =
  | { passes: true }
  | { passes: false, id: FindingId, statuses: readonly number[], expected: string }
  | { passes: null, reason: string }

const SAFE: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE'])
/** By which refusals are known where nobody says it more exactly. A page that leads to its sign-in refuses, too. */
const REFUSED = [401, 403, 404, 405, 301, 302, 303, 307, 308]
const STEP_UP_SECONDS = 300

/** Its guard is the suite's: it asks who calls before it reads a body, and says what it is in one way. */
export function isOfSuite ({ planned }: Route): boolean {
  return planned?.controls.access !== undefined
}

export function isSafe (method: string): boolean {
  return SAFE.has(method)
}

/** The callers, whose credentials are made when they are first needed, and again when they may be used up. */
export class Callers {
  readonly names: readonly string[]
  readonly #sources: Principals
  readonly #onMade: (name: string, principal: Principal) => void
  readonly #known = new Map<string, Caller>()

  /** @param onMade is told of each principal, whenever it is made */
  constructor (sources: Principals, onMade: (name: string, principal: Principal) => void) {
    this.#sources = sources
    this.#onMade = onMade
    this.names = Object.keys(sources)
  }

  async get (name: string): Promise<Caller> {
    const known = this.#known.get(name)
    if (known !== undefined) return known
    const source = this.#sources[name]!
    const given = typeof source === 'function' ? await source() : source
    this.#onMade(name, given)
    const principal = withClaims(given)
    const caller = { name, principal, headers: (method: string) => headersOf(principal, method) }
    this.#known.set(name, caller)
    return caller
  }

  async all (): Promise<Caller[]> {
    return Promise.all(this.names.map(name => this.get(name)))
  }

  /** Their credentials may be used up. True where others can be made. */
  renew (name: string): boolean {
    const isMade = typeof this.#sources[name] === 'function'
    if (isMade) this.#known.delete(name)
    return isMade
  }
}

/** Callers of one kind come by the same way, and have the same rights. */
export function kindOf ({ principal: { via, roles, permissions, scopes } }: Caller): string {
  return JSON.stringify([via, roles, permissions, scopes])
}

export function headersOf ({ token, key, cookie, csrf, headers }: Principal, method: string): Record<string, string> {
  return {
    ...token !== undefined && { authorization: `Bearer ${token}` },
    ...key !== undefined && { 'x-api-key': key },
    ...cookie !== undefined && { cookie, 'sec-fetch-site': 'same-origin' },
    ...csrf !== undefined && !isSafe(method) && { 'x-csrf-token': csrf },
    ...headers,
  }
}

/** Of tokens that can be read, what they say and nobody else has said. */
function withClaims (principal: Principal): Principal {
  const { token, key, cookie } = principal
  const claims = token === undefined ? null : claimsOf(token)
  const via = token !== undefined ? 'bearer' : cookie !== undefined ? 'session' : key !== undefined ? 'key' : 'bearer'
  const { sub, roles, scope, plan, auth_time: authTime, amr } = claims ?? {}
  const known: Partial<Principal> = {
    ...typeof sub === 'string' && { id: sub },
    ...Array.isArray(roles) && { roles },
    ...typeof scope === 'string' && { scopes: scope.split(' ') },
    ...typeof plan === 'string' && { plan },
    ...typeof authTime === 'number' && { authTime },
    ...Array.isArray(amr) && { amr },
  }
  return { via, ...known, ...principal }
}

/** What a JWT says; null where the text is none. */
export function claimsOf (token: string): Record<string, unknown> | null {
  try {
    return JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()) as Record<string, unknown>
  } catch {
    return null
  }
}

export class Judge {
  readonly #surface: Surface

  constructor (surface: Surface) {
    this.#surface = surface
  }

  /** Whether the caller passes what needs only the principal; null is nobody. */
  verdictOn (route: Route, caller: Caller | null): Verdict {
    const { access, wantsProof, isGone, csrf, method } = route
    const isSuite = isOfSuite(route)
    if (isGone) return { passes: false, id: 'authorization.open', statuses: [410], expected: '410: it is no longer served' }
    if (access === null) return { passes: null, reason: 'nothing says who may call it' }
    const refused = (id: FindingId, status: number, why: string): Verdict => ({ passes: false, id, statuses: isSuite ? [status] : REFUSED, expected: `${status}: ${why}` })
    if (caller === null) {
      // A token of a page is asked of everybody there, and nobody has one.
      if (access === 'public') return csrf === 'all' && !isSafe(method) ? { passes: null, reason: 'it wants the token of a page' } : { passes: true }
      return refused('authorization.open', 401, 'nobody is signed in')
    }
    if (access === 'public') return { passes: true }
    if (wantsProof) return { passes: null, reason: 'it wants a token that is bound to a key' }
    const { principal } = caller
    const rule = access === 'user' ? {} : access
    const { via, roles: held, scopes, authTime, amr } = principal
    const permissions = [rule.permissions ?? []].flat() as string[]
    const roles = [rule.roles ?? []].flat() as string[]
    const accepted = isSuite ? acceptedBy(access) : rule.via ?? [via!]
    if (!accepted.includes(via!)) return refused('authorization.role', 403, `it takes no ${via}`)
    if (isSuite && scopes !== undefined && permissions.length === 0 && rule.via === undefined) return refused('authorization.role', 403, 'it takes no credential that was cut down to scopes')
    if ((roles.length > 0 || permissions.length > 0) && held === undefined && principal.permissions === undefined) return { passes: null, reason: `the roles of ${caller.name} are not known` }
    if (roles.length > 0 && !roles.some(role => this.#surface.hasRole(held ?? [], role))) return refused('authorization.role', 403, `it asks for the role ${roles.join(' or ')}`)
    const missing = permissions.find(permission => !this.can(principal, permission))
    if (missing !== undefined) return refused('authorization.role', 403, `it asks for the permission ${missing}`)
    const { stepUp = false } = rule
    if (stepUp !== false) {
      const { maxAge = stepUp === true ? STEP_UP_SECONDS : undefined, factors = [] } = stepUp === true ? {} : stepUp
      if (maxAge !== undefined) {
        if (authTime === undefined) return { passes: null, reason: `when ${caller.name} was seen last is not known` }
        if (Date.now() / 1000 - authTime > maxAge) return refused('authorization.step-up', 401, `it wants a proof of at most ${maxAge} seconds ago`)
      }
      const lacking = [factors].flat().filter(factor => amr?.includes(factor) !== true)
      if (lacking.length > 0) return refused('authorization.step-up', 401, `it wants ${lacking.join(', ')} to have been shown`)
    }
    return { passes: true }
  }

  can ({ roles = [], permissions = [], scopes }: Principal, permission: string): boolean {
    if (scopes !== undefined && !scopes.includes(permission)) return false
    const given = this.#surface.permissionsOf(roles)
    return permissions.includes(permission) || given.has(permission) || [...given].some(one => one === '*' || (one.endsWith(':*') && permission.startsWith(one.slice(0, -1))))
  }

  /** Whether other people's objects may be reached; null where that cannot be known. */
  reachesForeign ({ access, resource, params }: Route, { principal }: Caller, hint: 'allow' | 'deny' | undefined): boolean | null {
    if (hint !== undefined) return hint === 'allow'
    if (resource !== null) {
      if (resource.override.some(role => this.#surface.hasRole(principal.roles ?? [], role))) return true
      return resource.isCustom ? null : false
    }
    // Where a role or permission is asked for, it is what opens the objects of others.
    const asksMore = typeof access === 'object' && access !== null && (access.roles !== undefined || access.permissions !== undefined)
    return access === 'public' || asksMore || params.length === 0
  }
}

function acceptedBy (access: Exclude<PolicyAccess, 'public'>): readonly string[] {
  if (access === 'user') return ['bearer', 'session']
  return access.via ?? ([access.permissions ?? []].flat().length > 0 ? ['bearer', 'session', 'key', 'certificate'] : ['bearer', 'session'])
}
