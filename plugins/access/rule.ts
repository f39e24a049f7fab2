/** Rules: what a route's `config.access` may say, and what becomes of it at boot. */
import { Type } from '@sinclair/typebox'
import type { Principal } from '../identity.js'
import { checkOptions } from '../options.js'
import type { PlannedRoute } from '../plan/index.js'
import { AccessMisconfigured } from './errors.js'
import { listOf, type Permission, type ResourceName, type Role } from './names.js'
import { union, type ExpandedRoles } from './roles.js'

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
   * Kinds of credential that are accepted (default: bearer and session; keys and client certificates too where permissions are asked for).
   * A credential that is cut down to scopes passes only where a permission is asked for, or where its kind is named here.
   */
  via?: readonly Principal['via'][]
  /**
   * The person proved themselves within `maxAge` seconds (`true`: 300), and showed all of these factors (RFC 8176) when they signed
   * in or stepped up last. Without `maxAge` it does not matter when that was.
   */
  stepUp?: boolean | StepUp
}

/** What a person can show: a password, a code, a passkey, more than one of them. */
export type Factor = 'pwd' | 'otp' | 'pop' | 'mfa'

/** At least one of both; an empty one must not compile. */
export type StepUp =
  | { maxAge: number, factors?: Factor | readonly Factor[] }
  | { maxAge?: number, factors: Factor | readonly Factor[] }

// `object`, because a type of which all is optional takes any word: `access: 'everybody'` must not compile.
export type Access = 'public' | 'user' | (AccessRule & object)

/** A rule as it is asked on each request. */
export interface CompiledRule {
  /** Every role that passes; null where none is asked for. */
  roles: ReadonlySet<string> | null
  permissions: readonly string[]
  via: readonly Principal['via'][]
  /** A credential that was cut down to scopes may pass. */
  takesScoped: boolean
  maxAge: number | null
  factors: readonly Factor[]
  /** For the log: what it asks for. */
  text: string
}

export const Name = Type.String({ minLength: 1, maxLength: 100 })
export const Names = Type.Union([Name, Type.Array(Name, { minItems: 1 })])

const STEP_UP_SECONDS = 300

const FactorName = Type.Union([Type.Literal('pwd'), Type.Literal('otp'), Type.Literal('pop'), Type.Literal('mfa')])
const StepUpForm = Type.Object({
  maxAge: Type.Optional(Type.Integer({ minimum: 1 })),
  factors: Type.Optional(Type.Union([FactorName, Type.Array(FactorName, { minItems: 1 })])),
}, { additionalProperties: false, minProperties: 1 })
const Rule = Type.Object({
  roles: Type.Optional(Names),
  permissions: Type.Optional(Names),
  resource: Type.Optional(Name),
  action: Type.Optional(Name),
  via: Type.Optional(Type.Array(Type.Union([Type.Literal('bearer'), Type.Literal('session'), Type.Literal('key'), Type.Literal('certificate')]), { minItems: 1 })),
  stepUp: Type.Optional(Type.Union([Type.Boolean(), StepUpForm])),
}, { additionalProperties: false })

/** The rule of a route; where it has none or a faulty one, the route is objected to. */
export function ruleOf (route: PlannedRoute, expanded: ExpandedRoles, resources: { has: (name: string) => boolean }): Access | null {
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
    ...listOf(rule.roles).filter(role => !expanded.roles.has(role)).map(role => `role ${JSON.stringify(role)}`),
    ...listOf(rule.permissions).filter(name => !expanded.permissions.has(name)).map(name => `permission ${JSON.stringify(name)}`),
    ...rule.resource !== undefined && !resources.has(rule.resource) ? [`resource ${JSON.stringify(rule.resource)}`] : [],
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

/** The kinds of credential that pass a rule. */
export function acceptedBy (rule: Access): readonly Principal['via'][] {
  if (rule === 'public') return []
  if (rule === 'user') return ['bearer', 'session']
  return rule.via ?? (listOf(rule.permissions).length > 0 ? ['bearer', 'session', 'key', 'certificate'] : ['bearer', 'session'])
}

export function compileRule (rule: 'user' | AccessRule, { holders }: ExpandedRoles): CompiledRule {
  if (rule === 'user') return { roles: null, permissions: [], via: acceptedBy(rule), takesScoped: false, maxAge: null, factors: [], text: '' }
  const permissions = listOf(rule.permissions)
  const roles = listOf(rule.roles)
  const { maxAge = null, factors }: { maxAge?: number | null, factors?: Factor | readonly Factor[] } = typeof rule.stepUp === 'object' ? rule.stepUp : { maxAge: rule.stepUp === true ? STEP_UP_SECONDS : null }
  return {
    roles: rule.roles === undefined ? null : union(roles.map(role => holders.get(role)!)),
    permissions,
    via: acceptedBy(rule),
    takesScoped: permissions.length > 0 || rule.via !== undefined,
    maxAge,
    factors: listOf(factors),
    text: roles.join(' or '),
  }
}
