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
import { createError, type FastifyError } from '@fastify/error'
import { Type } from '@sinclair/typebox'
import fp from 'fastify-plugin'
import type { Principal } from '../identity.js'
import { checkOptions } from '../options.js'
import type { PlannedRoute, Step } from '../plan/index.js'
import { expandRoles, type ExpandedRoles, type RoleDefinition } from './roles.js'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Who may call this route; required. `public`: everybody; `user`: whoever is signed in; or a rule, all parts of which must hold. */
    access?: Access
  }
  interface FastifyInstance {
    access: AccessControl
  }
  // The parameters are Fastify's own: a merged declaration must repeat them.
  // eslint-disable-next-line @typescript-eslint/no-unused-vars
  interface FastifyRequest<RouteGeneric, RawServer, RawRequest, SchemaCompiler, TypeProvider, ContextConfig, Logger, RequestType> {
    /**
     * The object that this route's `access.resource` loaded and allowed, with its type; null before `preHandler`
     * and on routes that load none.
     */
    resource: LoadedResource<ContextConfig>
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

/** What the route with this config loads. */
export type LoadedResource<Config> = Config extends { access: { resource: infer Name extends ResourceName } } ? ResourceMap[Name] : unknown

export interface AccessRule {
  /** One of these roles, or one that inherits from it. */
  roles?: Role | readonly Role[]
  /** All of these permissions. */
  permissions?: Permission | readonly Permission[]
  /** The object, by the name of its definition. */
  resource?: ResourceName
  /** What is done to the object: what shares and rules are asked for (default `read`). */
  action?: string
  /**
   * Kinds of credential that are accepted (default: bearer and session; keys too where permissions are asked for).
   * A credential that is cut down to scopes passes only where a permission is asked for, or where its kind is named here.
   */
  via?: readonly Principal['via'][]
  /** The person proved themselves within so many seconds (`true`: 300). */
  stepUp?: boolean | { maxAge: number }
}

// `object`, because a type of which all is optional takes any word: `access: 'everybody'` must not compile.
export type Access = 'public' | 'user' | (AccessRule & object)

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
  /** Roles (and those that inherit from them) that may do everything to it. */
  override?: Role | readonly Role[]
}

export interface AccessControl {
  /** All permissions of these roles. */
  permissionsOf: (roles: readonly string[]) => Set<string>
  /** The principal has this permission (and its credential was not cut down below it). */
  can: (principal: Principal, permission: Permission) => boolean
  /** The principal has this role, or one that inherits from it. */
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

const Name = Type.String({ minLength: 1, maxLength: 100 })
const Names = Type.Union([Name, Type.Array(Name, { minItems: 1 })])
const Rule = Type.Object({
  roles: Type.Optional(Names),
  permissions: Type.Optional(Names),
  resource: Type.Optional(Name),
  action: Type.Optional(Name),
  via: Type.Optional(Type.Array(Type.Union([Type.Literal('bearer'), Type.Literal('session'), Type.Literal('key')]), { minItems: 1 })),
  stepUp: Type.Optional(Type.Union([Type.Boolean(), Type.Object({ maxAge: Type.Integer({ minimum: 1 }) }, { additionalProperties: false })])),
}, { additionalProperties: false })
const Callable = Type.Unsafe<(...args: never[]) => unknown>(Type.Function([], Type.Any()))
const Definition = Type.Object({
  load: Callable,
  owner: Type.Optional(Callable),
  shares: Type.Optional(Callable),
  rule: Type.Optional(Callable),
  hidden: Type.Optional(Type.Boolean()),
  override: Type.Optional(Names),
}, { additionalProperties: false })

export const AccessOptions = Type.Object({
  roles: Type.Optional(Type.Record(Type.String(), Type.Object({
    inherits: Type.Optional(Type.Array(Name)),
    permissions: Type.Optional(Type.Array(Name)),
  }, { additionalProperties: false }), { description: 'What each role may do', default: {} })),
  permissions: Type.Optional(Type.Array(Name, { description: 'Permissions that only wildcards give', default: [] })),
}, { additionalProperties: false })
export interface AccessOptions {
  /** What each role may do (default none). */
  roles?: Readonly<Record<string, RoleDefinition>>
  /** Permissions that only wildcards give (default none). */
  permissions?: readonly string[]
  /** How the objects of each kind are found, and who may touch them. */
  resources?: { [Name in ResourceName]?: ResourceDefinition<ResourceMap[Name]> }
  /** Milliseconds since the epoch; for tests. */
  now?: () => number
}

interface CompiledRule {
  /** Every role that passes; null where none is asked for. */
  roles: ReadonlySet<string> | null
  permissions: readonly string[]
  via: readonly Principal['via'][]
  /** A credential that was cut down to scopes may pass. */
  takesScoped: boolean
  maxAge: number | null
  /** For the log: what it asks for. */
  text: string
}

async function access (app: FastifyInstance, options: AccessOptions): Promise<void> {
  const { resources = {}, now = Date.now, ...plain } = options
  checkOptions(AccessOptions, plain, 'access', AccessMisconfigured)
  const expanded = expand(plain.roles ?? {}, plain.permissions ?? [])
  const definitions = checkDefinitions(resources as Record<string, ResourceDefinition>, expanded)

  const control: AccessControl = {
    permissionsOf: roles => new Set(roles.flatMap(role => [...expanded.roles.get(role) ?? []])),
    can: hasPermission,
    hasRole: (principal, role) => principal.roles.some(held => expanded.holders.get(role)?.has(held) === true),
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
      if (rule === 'public') return { promise: rule }
      const compiled = compileRule(rule)
      return { step: compiled.maxAge === null && compiled.roles === null ? authorizeByPermission(compiled) : authorizeByRule(compiled), promise: rule }
    },
  })
  app.plan.contribute({
    concern: 'resource',
    stage: 'resource',
    compile (route) {
      const rule = ruleOf(route)
      const definition = rule === null || typeof rule === 'string' || rule.resource === undefined ? undefined : definitions.get(rule.resource)
      if (definition === undefined) return undefined
      const { resource, action = 'read' } = rule as AccessRule
      const { hidden = true, override } = definition
      return { step: authorizeResource(definition, resource!, action), promise: { name: resource, action, hidden, override: list(override) } }
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
    if (typeof rule !== 'object') {
      route.object(`access: ${JSON.stringify(rule)} is no policy: write 'public', 'user', or a rule such as { permissions: '…' }`)
      return null
    }
    try {
      checkOptions(Rule, rule, 'access', AccessMisconfigured)
    } catch (error) {
      route.object((error as Error).message)
      return null
    }
    const unknown = [
      ...list(rule.roles).filter(role => !expanded.roles.has(role)).map(role => `role ${JSON.stringify(role)}`),
      ...list(rule.permissions).filter(name => !expanded.permissions.has(name)).map(name => `permission ${JSON.stringify(name)}`),
      ...rule.resource !== undefined && !definitions.has(rule.resource) ? [`resource ${JSON.stringify(rule.resource)}`] : [],
    ]
    if (unknown.length > 0) {
      route.object(`unknown ${unknown.join(', ')}: declare it in the options of access`)
      return null
    }
    const { roles, permissions, resource, action, via, stepUp = false } = rule
    if (roles === undefined && permissions === undefined && resource === undefined && via === undefined && stepUp === false) {
      route.object("access is an empty rule: write 'user' for whoever is signed in")
      return null
    }
    if (action !== undefined && resource === undefined) {
      route.object(`access: action ${JSON.stringify(action)} is done to nothing: name the resource`)
      return null
    }
    return rule as AccessRule
  }

  function compileRule (rule: 'user' | AccessRule): CompiledRule {
    if (rule === 'user') return { roles: null, permissions: [], via: ['bearer', 'session'], takesScoped: false, maxAge: null, text: '' }
    const permissions = list(rule.permissions)
    const roles = list(rule.roles)
    return {
      roles: rule.roles === undefined ? null : new Set(roles.flatMap(role => [...expanded.holders.get(role)!])),
      permissions,
      via: rule.via ?? (permissions.length > 0 ? ['bearer', 'session', 'key'] : ['bearer', 'session']),
      takesScoped: permissions.length > 0 || rule.via !== undefined,
      maxAge: rule.stepUp === undefined || rule.stepUp === false ? null : rule.stepUp === true ? STEP_UP_SECONDS : rule.stepUp.maxAge,
      text: roles.join(' or '),
    }
  }

  /** The common case in few steps: one permission, and a credential that needs nothing else. */
  function authorizeByPermission (rule: CompiledRule): Step {
    const only = rule.permissions.length === 1 ? rule.permissions[0]! : null
    return function authorizePermission (request) {
      const { principal } = request
      if (principal !== null && only !== null && rule.via.includes(principal.via) && hasPermission(principal, only)) return
      authorize(request, rule)
    }
  }

  function authorizeByRule (rule: CompiledRule): Step {
    return function authorizeRule (request) { authorize(request, rule) }
  }

  function authorize (request: FastifyRequest, { roles, permissions, via, takesScoped, maxAge, text }: CompiledRule): void {
    const { principal } = request
    if (principal === null) throw unauthenticated(request)
    if (!via.includes(principal.via)) throw forbidden(request, `credential ${principal.via} is not accepted`)
    if (!takesScoped && principal.scopes !== undefined) throw forbidden(request, 'the credential is cut down to scopes, and no permission is asked for')
    if (roles !== null && !principal.roles.some(role => roles.has(role))) throw forbidden(request, `lacks role ${text}`)
    for (const permission of permissions) {
      if (!hasPermission(principal, permission)) throw forbidden(request, `lacks permission ${permission}`)
    }
    // Written so that a time that is no number, or lies far ahead, is refused too.
    if (maxAge !== null && !(Math.abs(now() / 1000 - principal.authTime) <= maxAge)) throw stepUpRequired(request, maxAge)
  }

  function hasPermission (principal: Principal, permission: string): boolean {
    const { scopes } = principal
    // A text of scopes would be searched for parts of names.
    if (scopes !== undefined && !(Array.isArray(scopes) && scopes.includes(permission))) return false
    for (const role of principal.roles) if (expanded.roles.get(role)?.has(permission) === true) return true
    return false
  }

  /** Synchronous as long as nothing that is asked waits. */
  function authorizeResource (definition: ResourceDefinition, name: string, action: string): Step {
    const { load, owner, shares, rule, hidden = true } = definition
    const override = new Set(list(definition.override).flatMap(role => [...expanded.holders.get(role)!]))

    return function authorizeObject (request) {
      return next(load(request), resource => weigh(request, resource))
    }

    function weigh (request: FastifyRequest, resource: unknown): void | Promise<void> {
      if (resource === null || resource === undefined) throw new ResourceNotFound()
      const principal = request.principal!
      const ownerId = owner?.(resource)
      if (typeof ownerId === 'string' && ownerId !== '' && ownerId === principal.userId) return allow(request, resource, true)
      if (principal.roles.some(role => override.has(role))) return allow(request, resource, false)
      return next(shares === undefined ? [] : shares(resource, principal), given => {
        const actions: readonly string[] = Array.isArray(given) ? given : []
        if (actions.includes(action)) return allow(request, resource, false)
        return next(rule === undefined ? false : rule(resource, principal, action), allowed => {
          if (allowed !== true) throw refused(request, actions)
          allow(request, resource, false)
        })
      })
    }

    function refused (request: FastifyRequest, actions: readonly string[]) {
      app.events.record('access_denied', request, { reason: `may not ${action} this ${name}`, hidden })
      // Whom it was shared with in part knows that it is there; to strangers it does not exist.
      return hidden && actions.length === 0 ? new ResourceNotFound() : new Forbidden()
    }
  }

  function allow (request: FastifyRequest, resource: unknown, isOwner: boolean): void {
    request.resource = resource
    request[owned] = isOwner
  }

  function unauthenticated (request: FastifyRequest) {
    const failed = app.identity.settle(request)
    const cause = failed instanceof Promise ? null : failed
    // What could not be checked is nobody's attempt: that shared state is away is an event of its own, said once.
    if (cause === null || (cause.statusCode ?? 500) < 500) app.events.record('access_denied', request, { reason: cause === null ? 'no credential' : cause.code })
    const error: FastifyError & { headers?: Record<string, string> } = cause ?? new Unauthenticated()
    // A credential of another scheme than bearer says itself what was wrong with it.
    if (error.statusCode !== 401 || error.headers?.['www-authenticate'] !== undefined) return error
    return Object.assign(error, { headers: { 'www-authenticate': app.identity.challenge(cause === null ? undefined : 'invalid_token') } })
  }

  function stepUpRequired (request: FastifyRequest, maxAge: number) {
    app.events.record('access_denied', request, { reason: `was not confirmed within ${maxAge} seconds` })
    const scheme = request.principal?.jkt === undefined ? 'Bearer' : 'DPoP'
    // RFC 9470, 3.
    return Object.assign(new StepUpRequired(), { headers: { 'www-authenticate': `${scheme} realm="api", error="insufficient_user_authentication", max_age="${maxAge}"` } })
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

function expand (roles: Readonly<Record<string, RoleDefinition>>, permissions: readonly string[]): ExpandedRoles {
  try {
    return expandRoles(roles, permissions)
  } catch (error) {
    throw new AccessMisconfigured((error as Error).message)
  }
}

/** The definitions of resources, by name: each can be loaded, and somebody can be allowed. */
function checkDefinitions (resources: Record<string, ResourceDefinition>, { roles }: ExpandedRoles): ReadonlyMap<string, ResourceDefinition> {
  for (const [name, definition] of Object.entries(resources)) {
    checkOptions(Definition, definition, `access: resources.${name}`, AccessMisconfigured)
    const unknown = list(definition.override).filter(role => !roles.has(role))
    if (unknown.length > 0) throw new AccessMisconfigured(`access: resources.${name}: override: ${unknown.join(', ')} is not a role`)
    if (definition.owner === undefined && definition.shares === undefined && definition.rule === undefined && definition.override === undefined) {
      throw new AccessMisconfigured(`access: resources.${name}: nobody could ever be allowed: give it an owner, shares, a rule or override`)
    }
  }
  return new Map(Object.entries(resources))
}

/** Goes on with a value: at once where it is there, later where it is waited for. */
function next<T> (value: PromiseLike<T> | T, go: (value: T) => void | Promise<void>): void | Promise<void> {
  return typeof (value as PromiseLike<T> | null | undefined)?.then === 'function' ? Promise.resolve(value).then(go) : go(value as T)
}

function list<T extends string> (names: T | readonly T[] | undefined): readonly T[] {
  return names === undefined ? [] : typeof names === 'string' ? [names] : names as readonly T[]
}

export default fp(access, { fastify: '5.x', name: 'bastion-access', dependencies: ['bastion-plan', 'bastion-events', 'bastion-identity'] })
