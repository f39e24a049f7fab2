/** What is attacked: the routes and what is promised of each, read from the plan of an application or from a policy file. */
import type { FastifyInstance } from 'fastify'
import { noBody } from '../../schemas/closed.js'
import type { PlannedRoute } from '../plan/index.js'
import { isSchema, type Schema } from '../references.js'
import { limitOfPlan, limitOfPolicy, type Limit } from './budgets.js'
import { TestingMisconfigured } from './checking.js'
import type { UploadPolicy, Policy, PolicyAccess, RouteHints, RoutePolicy } from './contract.js'
import { PLACE } from './paths.js'
import { inlined } from './schemas.js'

/** A route, and what is promised of it; null is what nothing is promised of. */
export interface Route {
  /** `GET /orders/:orderId`. */
  name: string
  method: string
  url: string
  params: readonly string[]
  hasHead: boolean
  /** What its router wants to see, beside the path: its version, its host. */
  sends: Readonly<Record<string, string>>
  access: PolicyAccess | null
  resource: { hidden: boolean | null, override: readonly string[], isCustom: boolean } | null
  body: { type: string, schema: Schema } | null
  paramsSchema: Schema | null
  querySchema: Schema | null
  answers: ReadonlyMap<string, unknown> | 'raw' | null
  limits: Limit | null
  headers: Readonly<Record<string, string | true>> | null
  /** `off`: its route says so. */
  csrf: 'cookies' | 'all' | 'origin' | 'off' | null
  cards: boolean
  isGone: boolean
  /** Its body is good once. */
  isOnce: boolean
  /** A field that tells of no account. */
  conceals: string | null
  /** Fields whose words are rights; null: known by their names and words. */
  grants: readonly string[] | false | null
  upload: UploadPolicy | null
  /** The route that makes the service connect to a URL of its body; null: itself. */
  connects: string | null
  /** Who calls it is erased. */
  erases: boolean
  /** It sends a mail. */
  mails: boolean
  /** The event that its success is; true for any, null where nothing is said. */
  audit: string | boolean | null
  /** Answers in a form of its own. */
  ownForm: boolean
  /** Wants tokens that are bound to a key, which the kit has none of. */
  wantsProof: boolean
  planned: PlannedRoute | null
}

export interface Surface {
  routes: readonly Route[]
  /** The plan of the suite is there: refusals come before the body is read, and in its form. */
  isSuite: boolean
  problems: boolean
  /** Nothing is coerced or dropped in silence. */
  strict: boolean
  /** A host that is answered; null where all are. */
  host: string | null
  cors: boolean
  /** Each 401 and 403 is an event. */
  recordsRefusals: boolean
  /** Routes that the application has and the policy does not. */
  unlisted: readonly string[]
  permissionsOf: (roles: readonly string[]) => ReadonlySet<string>
  hasRole: (roles: readonly string[], role: string) => boolean
  /** All that there are. */
  rights: { roles: readonly string[], permissions: readonly string[] }
}

/** What the kit uses of the suite, as far as it is there. */
export type Suite = FastifyInstance & { plan?: FastifyInstance['plan'], access?: FastifyInstance['access'] }

/** Null where the application does not run the suite. */
export function surfaceOfPlan (app: Suite): Surface | null {
  const { plan, access } = app
  if (plan === undefined) return null
  const hosts = (plan.notFound.controls.transport as { hosts?: readonly string[] } | undefined)?.hosts ?? []
  return {
    routes: plan.routes.filter(({ kind, url, method }) => kind === 'route' && !(url === '*' && method === 'OPTIONS') && !url.startsWith('/.bastion/')).flatMap(route => routesOf(route, app)),
    isSuite: true,
    problems: app.hasPlugin('bastion-errors'),
    strict: app.hasPlugin('bastion-validation'),
    host: hosts[0] ?? null,
    cors: plan.notFound.controls.cors !== undefined && (plan.notFound.controls.cors as { origins?: unknown }).origins !== '*',
    recordsRefusals: app.hasPlugin('bastion-events'),
    unlisted: [],
    permissionsOf: roles => access?.permissionsOf(roles) ?? new Set(),
    hasRole: (roles, role) => access?.hasRole({ roles } as never, role as never) ?? roles.includes(role),
    rights: { roles: access?.roles ?? [], permissions: access?.permissions ?? [] },
  }
}

function routesOf (route: PlannedRoute, { plan }: Suite): Route[] {
  const { url, options, controls, instance } = route
  const schema = (options.schema ?? {}) as Record<string, unknown>
  const shared = instance.getSchemas()
  const has = (name: string) => controls[name] !== undefined && controls[name] !== false
  const resource = controls.resource as { hidden: boolean, override: readonly string[], custom?: boolean } | undefined
  const { check, of } = (controls.csrf || {}) as { check?: string, of?: string }
  const answers = controls.exposure === undefined ? null : controls.exposure === 'raw' ? 'raw' as const : new Map(Object.entries((schema.response ?? {}) as object).map(([status, part]) => [status.toLowerCase(), read(part)]))
  return route.method.split(',').map(method => ({
    name: `${method} ${url}`,
    method,
    url,
    params: paramsOf(url),
    hasHead: method === 'GET' && plan!.routes.some(({ twinOf }) => twinOf === route),
    sends: constraintsOf(options.constraints),
    access: (controls.access as PolicyAccess | undefined) ?? null,
    resource: resource === undefined ? null : { hidden: resource.hidden, override: resource.override, isCustom: resource.custom === true },
    body: bodyOf(schema.body, shared, (controls.validation as { mediaTypes?: readonly string[] } | undefined)?.mediaTypes),
    paramsSchema: read(schema.params) as Schema | null,
    querySchema: read(schema.querystring ?? schema.query) as Schema | null,
    answers,
    limits: limitOfPlan(controls.limits, `${method} ${url}`),
    headers: has('headers') ? controls.headers as Record<string, string> : null,
    csrf: controls.csrf === false ? 'off' : check === 'origin' ? 'origin' : check === 'token' ? of as 'cookies' | 'all' : null,
    cards: has('cards'),
    isGone: (controls.versions as { status?: string } | undefined)?.status === 'gone',
    isOnce: false,
    conceals: null,
    grants: null,
    upload: (controls.uploads as UploadPolicy | undefined) ?? null,
    connects: null,
    erases: false,
    mails: false,
    audit: (controls.audit as { type?: string } | undefined)?.type ?? (controls.audit as string | undefined) ?? null,
    ownForm: (options.config as { errorForm?: unknown } | undefined)?.errorForm !== undefined,
    wantsProof: controls.dpop === true || (controls.dpop as { required?: boolean } | undefined)?.required === true,
    planned: route,
  }))

  function read (part: unknown): unknown {
    return part === undefined ? null : inlined(part, shared)
  }
}

/** A pattern tells nobody what fits it. */
function constraintsOf ({ version, host }: { version?: unknown, host?: unknown } = {}): Record<string, string> {
  return { ...typeof version === 'string' && { 'accept-version': version }, ...typeof host === 'string' && { host } }
}

function bodyOf (body: unknown, shared: Readonly<Record<string, unknown>>, mediaTypes: readonly string[] | undefined): Route['body'] {
  if (body === undefined || body === null || body === noBody) return null
  const content = isSchema(body) && isSchema(body.content) ? body.content : null
  const [type, part] = content === null ? [mediaTypes?.[0] ?? 'application/json', body] : Object.entries(content as Record<string, { schema: unknown }>).map(([name, { schema }]) => [name, schema] as const)[0]!
  return { type, schema: inlined(part, shared) as Schema }
}

export function paramsOf (url: string): string[] {
  return [...url.matchAll(PLACE)].filter(([all]) => all !== '::').map(([all, name]) => name ?? all)
}

const BASELINE = { 'x-content-type-options': 'nosniff', framing: true } as const

/** What a policy file promises. */
export function surfaceOfPolicy (policy: Policy): Surface {
  const { roles = {}, hosts = [], headers = BASELINE, problems = false, strict = false, recordsRefusals = false } = policy
  const names = Object.keys(policy.routes)
  return {
    routes: names.map(name => routeOfPolicy(name, policy.routes[name]!, headers === false ? null : headers)).map(route => ({ ...route, hasHead: route.method === 'GET' && !names.includes(`HEAD ${route.url}`) })),
    isSuite: false,
    problems,
    strict,
    host: hosts[0] ?? null,
    cors: true,
    recordsRefusals,
    unlisted: [],
    permissionsOf: held => new Set(held.flatMap(role => lineage(role)).flatMap(role => roles[role]?.permissions ?? [])),
    hasRole: (held, role) => held.some(one => lineage(one).includes(role)),
    rights: { roles: Object.keys(roles), permissions: [...new Set(Object.values(roles).flatMap(({ permissions = [] }) => permissions))].filter(name => !name.includes('*')) },
  }

  /** The role, and those it inherits from. */
  function lineage (role: string, seen: readonly string[] = []): string[] {
    if (seen.includes(role)) return []
    return [role, ...(roles[role]?.inherits ?? []).flatMap(parent => lineage(parent, [...seen, role]))]
  }
}

function routeOfPolicy (name: string, given: PolicyAccess | RoutePolicy, common: Readonly<Record<string, string | true>> | null): Route {
  const [method = '', url = ''] = name.split(' ')
  const rule: RoutePolicy = typeof given === 'string' || isBareRule(given) ? { access: given as PolicyAccess } : given as RoutePolicy
  const { access = null, override, body, params, query, answers, limits, headers, mediaType = 'application/json', upload = null, connects = null, once, conceals, grants, erases = false, mails = false, audit = null } = rule
  const isOwned = typeof access === 'object' && access?.resource !== undefined
  return {
    name,
    method,
    url,
    params: paramsOf(url),
    hasHead: false,
    sends: {},
    access,
    resource: isOwned ? { hidden: null, override: [override ?? []].flat(), isCustom: false } : null,
    body: body === undefined ? null : { type: mediaType, schema: read(body) as Schema },
    paramsSchema: read(params) as Schema | null,
    querySchema: read(query) as Schema | null,
    answers: typeof answers === 'object' ? new Map(Object.entries(answers).map(([status, part]) => [status.toLowerCase(), read(part)])) : answers ?? null,
    limits: limitOfPolicy(limits, name),
    headers: headers === false ? null : headers === undefined ? common : { ...common, ...headers },
    csrf: null,
    cards: false,
    isGone: false,
    isOnce: once === true,
    conceals: conceals ?? null,
    grants: grants ?? null,
    upload,
    connects,
    erases,
    mails,
    audit,
    ownForm: false,
    wantsProof: false,
    planned: null,
  }

  function read (part: unknown): unknown {
    return part === undefined
      ? null
      : inlined(part, {}, reference => {
        throw new TestingMisconfigured(`policy: ${name} refers to "${reference}", which is not inside that schema`)
      })
  }
}

const RULE_KEYS = new Set(['roles', 'permissions', 'via', 'stepUp', 'resource', 'action'])

function isBareRule (given: object): boolean {
  const keys = Object.keys(given)
  return keys.length > 0 && keys.every(key => RULE_KEYS.has(key))
}

/** The plan, held to a policy: what the policy says of a route is what must hold, whatever the route says itself. */
export function heldTo (surface: Surface, policy: Policy): Surface {
  const promised = surfaceOfPolicy({ ...policy, headers: policy.headers ?? false })
  const wanted = new Map(promised.routes.map(route => [route.name, route]))
  return {
    ...surface,
    host: surface.host ?? promised.host,
    problems: surface.problems || promised.problems,
    strict: surface.strict || promised.strict,
    recordsRefusals: surface.recordsRefusals || promised.recordsRefusals,
    unlisted: surface.routes.filter(({ name }) => !wanted.has(name)).map(({ name }) => name),
    routes: surface.routes.map(route => {
      const must = wanted.get(route.name)
      if (must === undefined) return route
      return {
        ...route,
        access: must.access ?? route.access,
        resource: must.resource === null ? route.resource : { hidden: route.resource?.hidden ?? null, override: must.resource.override, isCustom: false },
        body: must.body ?? route.body,
        paramsSchema: must.paramsSchema ?? route.paramsSchema,
        querySchema: must.querySchema ?? route.querySchema,
        answers: must.answers ?? route.answers,
        limits: must.limits ?? route.limits,
        isOnce: must.isOnce,
        conceals: must.conceals,
        grants: must.grants,
        upload: must.upload ?? route.upload,
        connects: must.connects,
        erases: must.erases,
        mails: must.mails,
        audit: must.audit ?? route.audit,
        headers: must.headers === null ? route.headers : { ...route.headers, ...must.headers },
      }
    }),
  }
}

/** What hints say beyond the plan or the policy. */
export function withHints (surface: Surface, hints: Readonly<Record<string, RouteHints>>): Surface {
  return {
    ...surface,
    routes: surface.routes.map(route => {
      const { upload = route.upload, connects = route.connects, once = route.isOnce, conceals = route.conceals, grants = route.grants, erases = route.erases, mails = route.mails, audit = route.audit } = hints[route.name] ?? {}
      return { ...route, upload, connects, isOnce: once, conceals, grants, erases, mails, audit }
    }),
  }
}

/** Routes of any Fastify application that are not known, from how it draws them itself; those of several constraints are one. */
export function unlistedOf (app: FastifyInstance, known: readonly Route[]): string[] {
  // In a drawing two colons are one, and what may be left out is two routes.
  const names = new Set(known.flatMap(({ name }) => [name, name.replace(/\?$/, ''), name.replace(/\/:\w+\?$/, '')]).map(name => name.replaceAll('::', ':')))
  const path: string[] = []
  const drawn = app.printRoutes().split('\n').flatMap(line => {
    const [, indent = '', branch, text = '', listed = ''] = /^([│ ]*)([├└]── )?(.*?)(?: \(([A-Z, -]+)\))?(?: \{.*\})?$/.exec(line) ?? []
    // Another handler of the same place has no branch of its own.
    const depth = indent.length / 4 - (branch === undefined ? 1 : 0)
    if (text === '' || depth < 0) return []
    path.length = depth
    path[depth] = text === '(empty root node)' ? '' : text
    const methods = listed.split(', ').filter(method => method !== '')
    const url = path.join('')
    return methods.filter(method => !(method === 'HEAD' && methods.includes('GET')) && !(method === 'OPTIONS' && url === '*')).map(method => `${method} ${url}`)
  })
  return [...new Set(drawn)].filter(name => !names.has(name) && !(name.startsWith('HEAD ') && names.has(`GET ${name.slice(5)}`)))
}
