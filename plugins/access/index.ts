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
import { Type } from '@sinclair/typebox'
import fp from 'fastify-plugin'
import type { Principal } from '../identity.js'
import { checkOptions } from '../options.js'
import { authorizeBy } from './authorize.js'
import { AccessMisconfigured, WrongResource } from './errors.js'
import { listOf, type LoadedResource, type Permission, type ResourceMap, type ResourceName, type Role } from './names.js'
import { refusalsOf } from './refusals.js'
import { authorizeResource, checkDefinitions, owned, type ResourceDefinition } from './resources.js'
import { expandRoles, type ExpandedRoles, type RoleDefinition } from './roles.js'
import { acceptedBy, compileRule, Name, ruleOf, type Access, type AccessRule } from './rule.js'

export { AccessMisconfigured, Forbidden, ResourceNotFound, StepUpRequired, Unauthenticated, WrongResource } from './errors.js'
export type { AccessNames, LoadedResource, Permission, ResourceMap, ResourceName, Role } from './names.js'
export type { ResourceDefinition } from './resources.js'
export type { Access, AccessRule, Factor, StepUp } from './rule.js'

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

export interface AccessControl {
  /** All permissions of these roles. */
  permissionsOf: (roles: readonly string[]) => Set<string>
  /** The principal has this permission (and its credential was not cut down below it). */
  can: (principal: Principal, permission: Permission) => boolean
  /** The principal has this role, or one that inherits from it. */
  hasRole: (principal: Principal, role: Role) => boolean
  /** The principal owns the object that this route loaded. */
  isOwner: (request: FastifyRequest) => boolean
  /** The kinds of credential that a route with this rule takes; none where it is `public` and asks for nobody. */
  accepts: (rule: Access) => readonly Principal['via'][]
  readonly roles: readonly string[]
  readonly permissions: readonly string[]
}

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

async function access (app: FastifyInstance, options: AccessOptions): Promise<void> {
  const { resources = {}, now = Date.now, ...plain } = options
  checkOptions(AccessOptions, plain, 'access', AccessMisconfigured)
  const expanded = expand(plain.roles ?? {}, plain.permissions ?? [])
  const definitions = checkDefinitions(resources as Record<string, ResourceDefinition>, expanded)
  const judges = { refusals: refusalsOf(app), hasPermission, now }

  const control: AccessControl = {
    permissionsOf: roles => new Set(roles.flatMap(role => [...expanded.roles.get(role) ?? []])),
    can: hasPermission,
    hasRole: (principal, role) => principal.roles.some(held => expanded.holders.get(role)?.has(held) === true),
    isOwner: request => request[owned],
    accepts: acceptedBy,
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
      const rule = ruleOf(route, expanded, definitions)
      if (rule === null) return undefined
      return rule === 'public' ? { promise: rule } : { step: authorizeBy(compileRule(rule, expanded), judges), promise: rule }
    },
  })
  app.plan.contribute({
    concern: 'resource',
    stage: 'resource',
    compile (route) {
      const rule = ruleOf(route, expanded, definitions)
      const definition = rule === null || typeof rule === 'string' || rule.resource === undefined ? undefined : definitions.get(rule.resource)
      if (definition === undefined) return undefined
      const { resource, action = 'read' } = rule as AccessRule
      const { hidden = true, override } = definition
      return { step: authorizeResource(definition, resource!, action, expanded, app.events), promise: { name: resource, action, hidden, override: listOf(override), ...definition.rule !== undefined && { custom: true } } }
    },
  })

  function hasPermission (principal: Principal, permission: string): boolean {
    const { scopes } = principal
    // A text of scopes would be searched for parts of names.
    if (scopes !== undefined && !(Array.isArray(scopes) && scopes.includes(permission))) return false
    for (const role of principal.roles) if (expanded.roles.get(role)?.has(permission) === true) return true
    return false
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

export default fp(access, { fastify: '5.x', name: 'bastion-access', dependencies: ['bastion-plan', 'bastion-events', 'bastion-identity'] })
