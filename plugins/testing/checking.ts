/** What the attack kit is told is checked before anything is sent: a misspelt option attacks less than its author believes. */
import { createError } from '@fastify/error'
import { Type, type TObject, type TSchema } from '@sinclair/typebox'
import { checkOptions } from '../options.js'
import { FINDING_IDS, familyOf } from './catalogue.js'
import { AttackOptions, type LimitPart, type Policy, type PolicyAccess, type Principal, type RefusedPrincipal, type RouteHints, type RoutePolicy, type RoutePromises, type UploadPolicy, type Witnesses } from './contract.js'
import type { Surface } from './surface.js'
import { propertiesOf } from './schemas.js'

/** An option of the attack kit is wrong, or nothing says what is to be proven. */
export const TestingMisconfigured = createError<[string]>('FST_BASTION_TESTING_MISCONFIGURED', '%s', 500, TypeError)

type Rule = Exclude<PolicyAccess, string>
type Shared = Exclude<NonNullable<RoutePolicy['limits']>, readonly string[] | false>

const text = Type.String({ minLength: 1 })
const texts = Type.Array(text)
const some = Type.Union([text, texts])
const flag = Type.Boolean()
const made = Type.Function([], Type.Any())
const schema = Type.Object({})
const named = (part: TSchema) => Type.Record(Type.String(), part)

/** Of just these members: what the type declares, and nothing else. */
function form<T> (members: { [Name in keyof Required<T>]: TSchema }, needed: readonly (keyof T)[] = []): TObject {
  const properties = Object.entries<TSchema>(members).map(([name, part]) => [name, needed.includes(name as keyof T) ? part : Type.Optional(part)] as const)
  return Type.Object(Object.fromEntries(properties), { additionalProperties: false })
}

const windows = Type.Array(Type.String({ pattern: '^[1-9][0-9]*/[0-9]* ?(s|m|h|d|seconds?|minutes?|hours?|days?)$' }))
const parts = Type.Union((['address', 'caller', 'key', 'plan', 'route'] satisfies LimitPart[]).map(part => Type.Literal(part)))
const objects = named(named(Type.Union([text, made])))
const headers = named(Type.String())

const principal = {
  token: text,
  key: text,
  cookie: text,
  csrf: text,
  headers,
  id: text,
  roles: texts,
  permissions: texts,
  scopes: texts,
  plan: text,
  authTime: Type.Number(),
  amr: texts,
  via: Type.Union([Type.Literal('bearer'), Type.Literal('session'), Type.Literal('key'), Type.Literal('certificate')]),
}
const PrincipalForm = form<Principal>(principal)
const RefusedForm = form<RefusedPrincipal>({ ...principal, what: text })

const promises: { [Name in keyof Required<RoutePromises>]: TSchema } = {
  once: flag,
  conceals: text,
  erases: flag,
  mails: flag,
  connects: text,
  grants: Type.Union([texts, Type.Literal(false)]),
  audit: Type.Union([text, flag]),
  upload: form<UploadPolicy>({ field: text, kinds: texts, maxBytes: Type.Number(), maxWidth: Type.Number(), maxHeight: Type.Number(), maxPixels: Type.Number() }, ['kinds']),
}
const HintsForm = form<RouteHints>({
  ...promises,
  body: Type.Any(),
  type: text,
  query: Type.Union([schema, made]),
  headers,
  objects,
  foreign: Type.Union([Type.Literal('allow'), Type.Literal('deny')]),
  skip: Type.Union([text, named(text)]),
})

const RuleForm = form<Rule>({
  roles: some,
  permissions: some,
  via: texts,
  resource: text,
  action: text,
  stepUp: Type.Union([flag, form<Exclude<Rule['stepUp'], boolean | undefined>>({ maxAge: Type.Number(), factors: some })]),
})
const access = [Type.Literal('public'), Type.Literal('user'), RuleForm]
const common = Type.Union([named(Type.Union([Type.String(), Type.Literal(true)])), Type.Literal(false)])
const RoutePolicyForm = form<RoutePolicy>({
  ...promises,
  access: Type.Union(access),
  override: some,
  body: schema,
  params: schema,
  query: schema,
  headers: common,
  mediaType: text,
  answers: Type.Union([Type.Literal('raw'), named(schema)]),
  limits: Type.Union([windows, Type.Literal(false), form<Shared>({ windows, by: Type.Union([parts, Type.Array(parts)]), plans: named(windows) }, ['windows'])]),
})
const PolicyForm = form<Policy>({
  routes: named(Type.Union([...access, RoutePolicyForm])),
  hosts: texts,
  headers: common,
  problems: flag,
  strict: flag,
  recordsRefusals: flag,
  roles: named(form<{ inherits: unknown, permissions: unknown }>({ inherits: texts, permissions: texts })),
}, ['routes'])

const refused = Type.Union([RefusedForm, Type.Array(RefusedForm)])
type Made = Omit<AttackOptions, keyof (typeof AttackOptions)['properties']>
const MadeForm = form<Made>({
  principals: named(Type.Union([PrincipalForm, made])),
  objects,
  values: named(Type.Any()),
  routes: named(HintsForm),
  sign: made,
  reset: made,
  statusOf: made,
  headers,
  refused: form<NonNullable<AttackOptions['refused']>>({ garbage: refused, forged: refused, expired: refused, audience: refused, kind: refused, revoked: refused }),
  policy: Type.Union([text, schema]),
  witnesses: form<Witnesses>({ stored: made, logged: made, recorded: made, mailed: made }),
})

const FAMILY_NAMES = [...new Set(FINDING_IDS.map(familyOf))]
const ROUTE_NAME = /^[A-Z][A-Z-]* [/*]\S*$/

/** @throws TestingMisconfigured with one line that names each wrong option, and what is right */
export function checkAttack (options: AttackOptions): void {
  const members = Object.entries(options)
  const isMade = ([name]: [string, unknown]) => Object.hasOwn(MadeForm.properties, name)
  checkOptions(AttackOptions, Object.fromEntries(members.filter(member => !isMade(member))), 'testing', TestingMisconfigured)
  checkOptions(MadeForm, Object.fromEntries(members.filter(isMade)), 'testing', TestingMisconfigured)
  const { families = [], routes = {}, destructive, safe } = options
  const family = families.find(name => !(FAMILY_NAMES as string[]).includes(name))
  if (family !== undefined) throw new TestingMisconfigured(`testing: families: there is no ${JSON.stringify(family)}: there are ${FAMILY_NAMES.join(', ')}`)
  for (const [name, { skip = '' }] of Object.entries(routes)) {
    const wrong = typeof skip === 'string' ? undefined : Object.keys(skip).find(one => !([...FAMILY_NAMES, ...FINDING_IDS] as string[]).includes(one))
    if (wrong !== undefined) throw new TestingMisconfigured(`testing: routes[${JSON.stringify(name)}].skip: there is no ${JSON.stringify(wrong)}: there are ${FAMILY_NAMES.join(', ')}, and what CATALOGUE lists of each`)
  }
  if (destructive === true && safe === true) throw new TestingMisconfigured('testing: destructive, safe: one of them')
}

export function checkPrincipal (name: string, made: unknown): void {
  checkOptions(PrincipalForm, made, `testing: principals.${name}`, TestingMisconfigured)
}

export function checkPolicy (policy: unknown): asserts policy is Policy {
  checkOptions(PolicyForm, policy, 'testing: policy', TestingMisconfigured)
  const wrong = Object.keys((policy as unknown as Policy).routes).find(name => !ROUTE_NAME.test(name))
  if (wrong !== undefined) throw new TestingMisconfigured(`testing: policy.routes: ${JSON.stringify(wrong)} is no route: write it as "GET /orders/:orderId"`)
}

/**
 * Where a service is that runs elsewhere.
 *
 * @throws TestingMisconfigured for what is no URL of a service, and for another machine than this where nobody says that it may be attacked
 */
export function placeOf (target: unknown, { destructive = false, safe = false }: AttackOptions): URL {
  if (typeof target !== 'string' || !URL.canParse(target)) throw new TestingMisconfigured('testing: what is attacked is an application, or a URL such as http://127.0.0.1:3000')
  const url = new URL(target)
  if (!['http:', 'https:'].includes(url.protocol) || `${url.username}${url.password}${url.search}${url.hash}` !== '') {
    throw new TestingMisconfigured('testing: the URL is http or https, with a host and the path below which the service is, and nothing else')
  }
  if (!isLoopback(url) && !destructive && !safe) {
    throw new TestingMisconfigured(`testing: ${url.host} is not this machine: say destructive: true where all of it may be changed and deleted, or safe: true for GET, HEAD and OPTIONS alone`)
  }
  return url
}

export function isLoopback ({ hostname }: URL): boolean {
  return /^(?:(?:.+\.)?localhost\.?|127\.\d+\.\d+\.\d+|\[::1\])$/.test(hostname)
}

/** A hint for what is not there protects nobody from a misspelling. */
export function refuseUnknown ({ routes }: Surface, { only = [], routes: hints = {}, principals = {}, objects = {} }: AttackOptions): void {
  const known = new Set(routes.map(({ name }) => name))
  const unknown = [...only, ...Object.keys(hints), ...Object.values(hints).flatMap(({ connects }) => connects ?? [])].find(name => !known.has(name))
  if (unknown !== undefined) throw new TestingMisconfigured(`testing: there is no route ${JSON.stringify(unknown)}`)
  const fields = new Set(routes.flatMap(({ params, querySchema, body }) => [...params, ...Object.keys(propertiesOf(querySchema)), ...Object.keys(propertiesOf(body?.schema))]))
  for (const [param, owners] of Object.entries(objects)) {
    if (!fields.has(param)) throw new TestingMisconfigured(`testing: objects.${param}: no route has such a parameter or field`)
    const stranger = Object.keys(owners).find(name => name !== '*' && !Object.hasOwn(principals, name))
    if (stranger !== undefined) throw new TestingMisconfigured(`testing: objects.${param}: ${JSON.stringify(stranger)} is none of the principals`)
  }
}
