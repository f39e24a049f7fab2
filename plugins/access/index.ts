/**
 * Access: who may call which route, and who may touch which object.
 *
 * Threat: broken object and function level authorization (OWASP API1, API5:2023; CWE-639, CWE-862).
 * Defence: default deny at boot: a route without `config.access` does not boot. What needs only the principal is
 * decided before the body is parsed; what needs the object, after validation and before the handler. Policies hang
 * on the matched route, never on URL text.
 * Not covered: what a handler does with objects that it loads itself.
 */
import type { FastifyInstance, FastifyRequest } from 'fastify'
import createError from '@fastify/error'
import { Type, type Static } from '@sinclair/typebox'
import fp from 'fastify-plugin'
import type { Principal } from '../identity.js'
import { checkOptions } from '../options.js'
import type { PlannedRoute } from '../plan.js'
import { expandRoles, type RoleDefinition } from './roles.js'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Who may call this route; required. `public`: everybody; `user`: whoever is signed in; or a rule, all parts of which must hold. */
    access?: Access
  }
  interface FastifyInstance {
    access: AccessControl
  }
  interface FastifyRequest {
    /** The object that this route's `access.resource` loaded and allowed; {@link resourceOf} gives it with its type. */
    resource: unknown
    /** @internal */
    [owned]: boolean
  }
}

/** The names a service uses: augment it with `role`, `permission` and `resources`, and misspelt ones do not compile. */
export interface AccessNames {}

export type Role = AccessNames extends { role: infer Name extends string } ? Name : string
export type Permission = AccessNames extends { permission: infer Name extends string } ? Name : string
export type ResourceMap = AccessNames extends { resources: infer Map } ? Map : Record<string, unknown>
export type ResourceName = keyof ResourceMap & string

export interface AccessRule {
  /** One of these roles. */
  roles?: Role | readonly Role[]
  /** All of these permissions. */
  permissions?: Permission | readonly Permission[]
  /** The object, by the name of its definition. */
  resource?: ResourceName
  /** What is done to the object: what shares and rules are asked for (default `read`). */
  action?: string
  /** Kinds of credential that are accepted (default: bearer and session; keys too where permissions are asked for). */
  via?: readonly Principal['via'][]
  /** The person proved themselves within so many seconds (`true`: 300). */
  stepUp?: boolean | { maxAge: number }
}

export type Access = 'public' | 'user' | AccessRule

/** How objects of one kind are found and who may touch them. */
export interface ResourceDefinition<T = unknown> {
  /** Loads the object that the request names; null where it does not exist. */
  load: (request: FastifyRequest) => Promise<T | null | undefined> | T | null | undefined
  /** Id of the user who owns it. */
  owner?: (resource: T) => string | null
  /** The actions that this principal was given. */
  shares?: (resource: T, principal: Principal) => Promise<readonly string[]> | readonly string[]
  /** A rule of one's own, asked when nothing else allows. */
  rule?: (resource: T, principal: Principal, action: string) => Promise<boolean> | boolean
  /** Strangers are told that it does not exist (404), so that ids tell nothing (default true). */
  hidden?: boolean
  /** Roles that may do everything to it. */
  override?: Role | readonly Role[]
}

export interface AccessControl {
  /** All permissions of these roles. */
  permissionsOf: (roles: readonly string[]) => Set<string>
  /** The principal has this permission (and its credential was not cut down below it). */
  can: (principal: Principal, permission: Permission) => boolean
  hasRole: (principal: Principal, role: Role) => boolean
  /** The principal owns the object that this route loaded. */
  isOwner: (request: FastifyRequest) => boolean
  readonly roles: readonly string[]
  readonly permissions: readonly string[]
}

/** An option of the access concern is wrong. */
export const AccessMisconfigured = createError<[string]>('FST_BASTION_ACCESS_MISCONFIGURED', '%s', 500, TypeError)
/** Nobody is identified. */
export const Unauthenticated = createError('FST_BASTION_ACCESS_UNAUTHENTICATED', 'Authentication is required', 401)
/** The principal is known and not allowed. */
export const Forbidden = createError('FST_BASTION_ACCESS_FORBIDDEN', 'You are not allowed to do this', 403)
/** The object does not exist, or not for this principal. */
export const ResourceNotFound = createError('FST_BASTION_ERRORS_NOT_FOUND', 'There is nothing here', 404)
/** The person must prove themselves again. */
export const StepUpRequired = createError('FST_BASTION_STEP_UP_REQUIRED', 'Confirm who you are first', 401)
/** The handler asked for an object that its route does not load. */
export const WrongResource = createError<[string]>('FST_BASTION_ACCESS_WRONG_RESOURCE', 'This route loads no %s', 500, TypeError)

const STEP_UP_SECONDS = 300

const owned = Symbol('bastion.access.owned')

const Names = Type.Union([Type.String({ minLength: 1 }), Type.Array(Type.String({ minLength: 1 }))])
const Rule = Type.Object({
  roles: Type.Optional(Names),
  permissions: Type.Optional(Names),
  resource: Type.Optional(Type.String()),
  action: Type.Optional(Type.String()),
  via: Type.Optional(Type.Array(Type.Union([Type.Literal('bearer'), Type.Literal('session'), Type.Literal('key')]), { minItems: 1 })),
  stepUp: Type.Optional(Type.Union([Type.Boolean(), Type.Object({ maxAge: Type.Integer({ minimum: 1 }) }, { additionalProperties: false })])),
}, { additionalProperties: false })

export const AccessOptions = Type.Object({
  roles: Type.Optional(Type.Record(Type.String(), Type.Object({
    inherits: Type.Optional(Type.Array(Type.String())),
    permissions: Type.Optional(Type.Array(Type.String())),
  }, { additionalProperties: false }), { description: 'What each role may do', default: {} })),
  permissions: Type.Optional(Type.Array(Type.String(), { description: 'Permissions that only wildcards give', default: [] })),
}, { additionalProperties: false })
export type AccessOptions = Static<typeof AccessOptions> & {
  resources?: { [Name in ResourceName]?: ResourceDefinition<ResourceMap[Name]> }
  /** Milliseconds since the epoch; for tests. */
  now?: () => number
}

interface CompiledRule {
  roles: readonly string[]
  permissions: readonly string[]
  via: readonly Principal['via'][]
  maxAge: number | null
}

async function access (app: FastifyInstance, options: AccessOptions): Promise<void> {
  const { resources = {}, now = Date.now, ...plain } = options
  checkOptions(AccessOptions, plain, 'access', AccessMisconfigured)
  const definitions = resources as Record<string, ResourceDefinition>
  const expanded = expand(plain.roles ?? {}, plain.permissions ?? [])

  const control: AccessControl = {
    permissionsOf: roles => new Set(roles.flatMap(role => [...expanded.roles.get(role) ?? []])),
    can: (principal, permission) => hasPermission(principal, permission),
    hasRole: (principal, role) => principal.roles.includes(role),
    isOwner: request => request[owned],
    roles: [...expanded.roles.keys()],
    permissions: [...expanded.permissions],
  }
  app.decorate('access', control)
  app.decorateRequest('resource', null)
  app.decorateRequest(owned as never, false as never)

  app.plan.contribute({
    concern: 'access',
    stage: 'authorize',
    compile (route) {
      const rule = ruleOf(route)
      if (rule === null) return undefined
      if (rule === 'public') return { promise: 'public' }
      const compiled = compileRule(route, rule)
      return { step: compiled.maxAge === null && compiled.roles.length === 0 ? authorizeByPermission(compiled) : authorizeByRule(compiled), promise: rule }
    },
  })
  app.plan.contribute({
    concern: 'resource',
    stage: 'resource',
    compile (route) {
      const rule = ruleOf(route)
      if (rule === null || typeof rule === 'string' || rule.resource === undefined) return undefined
      const definition = definitions[rule.resource]
      if (definition === undefined) return undefined // objected to above
      const { hidden = true, override } = definition
      return { step: authorizeResource(definition, rule), promise: { name: rule.resource, action: rule.action ?? 'read', hidden, override: list(override) } }
    },
  })

  /** The rule of a route; where it has none or a faulty one, the route is objected to. */
  function ruleOf (route: PlannedRoute): Access | null {
    const rule = (route.options.config as { access?: unknown } | undefined)?.access
    if (rule === undefined || rule === null) {
      route.object("no access policy: add config: { access: 'user' } (or 'public', or { roles, permissions, resource })")
      return null
    }
    if (rule === 'public' || rule === 'user') return rule
    try {
      checkOptions(Rule, rule, 'access', AccessMisconfigured)
    } catch (error) {
      route.object((error as Error).message)
      return null
    }
    const unknown = [
      ...list(rule.roles).filter(role => !expanded.roles.has(role)).map(role => `role ${JSON.stringify(role)}`),
      ...list(rule.permissions).filter(name => !expanded.permissions.has(name)).map(name => `permission ${JSON.stringify(name)}`),
      ...rule.resource !== undefined && !Object.hasOwn(definitions, rule.resource) ? [`resource ${JSON.stringify(rule.resource)}`] : [],
    ]
    if (unknown.length > 0) {
      route.object(`unknown ${unknown.join(', ')}: declare it in the options of access`)
      return null
    }
    if (rule.roles === undefined && rule.permissions === undefined && rule.resource === undefined && rule.stepUp === undefined && rule.via === undefined) {
      route.object("access is an empty rule: write 'user' for whoever is signed in")
      return null
    }
    return rule as AccessRule
  }

  function compileRule (_route: PlannedRoute, rule: 'user' | AccessRule): CompiledRule {
    if (rule === 'user') return { roles: [], permissions: [], via: ['bearer', 'session'], maxAge: null }
    const permissions = list(rule.permissions)
    return {
      roles: list(rule.roles),
      permissions,
      via: rule.via ?? (permissions.length > 0 ? ['bearer', 'session', 'key'] : ['bearer', 'session']),
      maxAge: rule.stepUp === undefined || rule.stepUp === false ? null : rule.stepUp === true ? STEP_UP_SECONDS : rule.stepUp.maxAge,
    }
  }

  function authorizeByPermission (rule: CompiledRule) {
    const only = rule.permissions.length === 1 ? rule.permissions[0]! : null
    return function authorizePermission (request: FastifyRequest): void | Promise<void> {
      const failed = app.identity.settle(request)
      if (failed instanceof Promise) return failed.then(() => authorize(request, rule))
      const { principal } = request
      if (principal !== null && only !== null && rule.via.includes(principal.via) && hasPermission(principal, only)) return
      authorize(request, rule)
    }
  }

  function authorizeByRule (rule: CompiledRule) {
    return function authorizeRule (request: FastifyRequest): void | Promise<void> {
      const failed = app.identity.settle(request)
      if (failed instanceof Promise) return failed.then(() => authorize(request, rule))
      authorize(request, rule)
    }
  }

  function authorize (request: FastifyRequest, { roles, permissions, via, maxAge }: CompiledRule): void {
    const { principal } = request
    if (principal === null) throw unauthenticated(request)
    if (!via.includes(principal.via)) throw forbidden(request, `credential ${principal.via} is not accepted`)
    if (roles.length > 0 && !roles.some(role => principal.roles.includes(role))) throw forbidden(request, `lacks role ${roles.join(' or ')}`)
    for (const permission of permissions) {
      if (!hasPermission(principal, permission)) throw forbidden(request, `lacks permission ${permission}`)
    }
    if (maxAge !== null && now() / 1000 - principal.authTime > maxAge) {
      throw Object.assign(new StepUpRequired(), { headers: { 'www-authenticate': `Bearer error="insufficient_user_authentication", max_age="${maxAge}"` } })
    }
  }

  function hasPermission (principal: Principal, permission: string): boolean {
    if (principal.scopes !== undefined && !principal.scopes.includes(permission)) return false
    for (const role of principal.roles) if (expanded.roles.get(role)?.has(permission) === true) return true
    return false
  }

  function authorizeResource (definition: ResourceDefinition, rule: AccessRule) {
    const { load, owner, shares, rule: own, hidden = true } = definition
    const override = list(definition.override)
    const action = rule.action ?? 'read'
    return async function authorizeObject (request: FastifyRequest): Promise<void> {
      const principal = request.principal!
      const resource = await load(request)
      if (resource === null || resource === undefined) throw new ResourceNotFound()
      const isOwner = owner?.(resource) === principal.userId
      const shared = isOwner || override.some(role => principal.roles.includes(role)) ? null : await shares?.(resource, principal) ?? []
      if (shared !== null && !shared.includes(action) && (await own?.(resource, principal, action)) !== true) {
        app.events.record('access_denied', request, { reason: `may not ${action} this ${rule.resource}`, hidden })
        // Whom it was shared with in part knows that it is there; to strangers it does not exist.
        throw hidden && shared.length === 0 ? new ResourceNotFound() : new Forbidden()
      }
      request.resource = resource
      request[owned] = isOwner
    }
  }

  function unauthenticated (request: FastifyRequest) {
    const failed = app.identity.settle(request)
    const cause = failed instanceof Promise ? null : failed
    app.events.record('access_denied', request, { reason: cause === null ? 'no credential' : cause.code })
    const error = cause ?? new Unauthenticated()
    const challenge = cause === null ? 'Bearer' : 'Bearer error="invalid_token"'
    return error.statusCode === 401 ? Object.assign(error, { headers: { 'www-authenticate': challenge } }) : error
  }

  function forbidden (request: FastifyRequest, reason: string) {
    app.events.record('access_denied', request, { reason })
    return new Forbidden()
  }
}

/**
 * The object that the route's `access.resource` loaded, with its type.
 *
 * @throws WrongResource (500) where the route loads another kind of object, or none
 */
export function resourceOf<Name extends ResourceName> (request: FastifyRequest, name: Name): ResourceMap[Name] {
  const rule = (request.routeOptions.config as { access?: Access }).access
  if (typeof rule !== 'object' || rule.resource !== name || request.resource === null) throw new WrongResource(name)
  return request.resource as ResourceMap[Name]
}

function expand (roles: Record<string, RoleDefinition>, permissions: readonly string[]) {
  try {
    return expandRoles(roles, permissions)
  } catch (error) {
    throw new AccessMisconfigured((error as Error).message)
  }
}

function list<T extends string> (names: T | readonly T[] | undefined): readonly T[] {
  return names === undefined ? [] : typeof names === 'string' ? [names] : names as readonly T[]
}

export default fp(access, { fastify: '5.x', name: 'bastion-access', dependencies: ['bastion-plan', 'bastion-events', 'bastion-identity'] })
