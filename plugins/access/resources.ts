/** Resources: objects that a route loads, and who may touch them; decided after validation and before the handler. */
import type { FastifyRequest } from 'fastify'
import { Type } from '@sinclair/typebox'
import type { SecurityEvents } from '../events.js'
import type { Principal } from '../identity.js'
import { checkOptions } from '../options.js'
import type { Step } from '../plan/index.js'
import { AccessMisconfigured, Forbidden, ResourceNotFound } from './errors.js'
import { listOf, type Role } from './names.js'
import type { ExpandedRoles } from './roles.js'
import { Names } from './rule.js'

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

/** Whether the principal owns the object that the route loaded. */
export const owned = Symbol('bastion.access.owned')

const Callable = Type.Unsafe<(...args: never[]) => unknown>(Type.Function([], Type.Any()))
const Definition = Type.Object({
  load: Callable,
  owner: Type.Optional(Callable),
  shares: Type.Optional(Callable),
  rule: Type.Optional(Callable),
  hidden: Type.Optional(Type.Boolean()),
  override: Type.Optional(Names),
}, { additionalProperties: false })

/** The definitions of resources, by name: each can be loaded, and somebody can be allowed. */
export function checkDefinitions (resources: Record<string, ResourceDefinition>, { roles }: ExpandedRoles): ReadonlyMap<string, ResourceDefinition> {
  for (const [name, definition] of Object.entries(resources)) {
    checkOptions(Definition, definition, `access: resources.${name}`, AccessMisconfigured)
    const unknown = listOf(definition.override).filter(role => !roles.has(role))
    if (unknown.length > 0) throw new AccessMisconfigured(`access: resources.${name}: override: ${unknown.join(', ')} is not a role`)
    if (definition.owner === undefined && definition.shares === undefined && definition.rule === undefined && definition.override === undefined) {
      throw new AccessMisconfigured(`access: resources.${name}: nobody could ever be allowed: give it an owner, shares, a rule or override`)
    }
  }
  return new Map(Object.entries(resources))
}

/** What is done to an object of one kind. Synchronous as long as nothing that is asked waits. */
export function authorizeResource (definition: ResourceDefinition, name: string, action: string, { holders }: ExpandedRoles, events: SecurityEvents): Step {
  const { load, owner, shares, rule, hidden = true } = definition
  const override = new Set(listOf(definition.override).flatMap(role => [...holders.get(role)!]))

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
        if (allowed !== true) throw refused(request, resource, actions)
        allow(request, resource, false)
      })
    })
  }

  function refused (request: FastifyRequest, resource: unknown, actions: readonly string[]) {
    const { id } = resource as { id?: unknown }
    events.record('access_denied', request, { reason: `may not ${action} this ${name}`, hidden, resource: { type: name, ...(typeof id === 'string' || typeof id === 'number') && { id: String(id) } } })
    // Whom it was shared with in part knows that it is there; to strangers it does not exist.
    return hidden && actions.length === 0 ? new ResourceNotFound() : new Forbidden()
  }
}

function allow (request: FastifyRequest, resource: unknown, isOwner: boolean): void {
  request.resource = resource
  request[owned] = isOwner
}

/** Goes on with a value: at once where it is there, later where it is waited for. */
function next<T> (value: PromiseLike<T> | T, go: (value: T) => void | Promise<void>): void | Promise<void> {
  return typeof (value as PromiseLike<T> | null | undefined)?.then === 'function' ? Promise.resolve(value).then(go) : go(value as T)
}
