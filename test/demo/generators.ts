/**
 * Requests at random, made from what the portal says of its own routes: valid ones by their schemas, and what becomes of those that are bent.
 * Every text that is generated holds {@link CANARY}, where its schema lets it.
 */
import type { FastifyInstance } from 'fastify'
import type { PlannedRoute } from '../../plugins/plan/index.js'
import fc, { type Arbitrary } from '../fixtures/fast-check.js'
import { CALLERS, NAMED, ORDER_TOTAL } from './cast.js'

export const CANARY = 'Qcanary7'
/** In what the log may tell: paths, and headers that are no credentials (an untrusted host). */
export const TOLD = `${CANARY}h`

export interface Generated {
  /** Whose route was meant. */
  route: string
  /** Over a socket, where the path is sent as it is written; else by `inject`. */
  way: 'inject' | 'socket'
  method: string
  url: string
  headers: Record<string, string>
  /** Whose credentials are in it, whole and alone. */
  caller?: string
  /** Each character a byte. */
  payload?: string
}

/** Of JSON Schema, as far as the portal's routes use it. */
export interface Schema {
  type?: string,
  const?: unknown,
  pattern?: string,
  minLength?: number,
  maxLength?: number,
  minimum?: number,
  maximum?: number,
  minItems?: number,
  maxItems?: number,
  uniqueItems?: boolean
  properties?: Record<string, Schema>,
  required?: string[],
  items?: Schema,
  anyOf?: Schema[],
  examples?: unknown[],
  normalize?: 'NFC' | 'NFKC',
  trim?: boolean,
  html?: 'post' | 'inline',
  content?: Record<string, { schema: Schema }>,
  additionalProperties?: unknown
}

/** Answers for as long as somebody listens. */
export const ENDLESS = '/audit/stream'
/** Routes on which a password is hashed: each costs as much as fifty others. */
export const COSTLY = /^POST \/(?:auth\/(?:login|register|password|step-up|reset)|session\/(?:login|step-up)|token)$/
/** What is asked of the network: only what leads nowhere, and what is refused by its form. */
const HOSTS = ['localhost', '127.0.0.1', '::1', '10.0.0.1', '169.254.169.254', '192.168.0.1', '::ffff:10.0.0.1', 'fe80::1', '', '-c 1', 'a b', '$(id)', ';id', '0x7f.1', '127.1', '2130706433', `${CANARY}/`, '[::1]', '%', '\u0000', 'ä', `${'a'.repeat(64)}.x`]

/** Requests to the routes of this portal that are `wanted`; those that hash passwords are rare. */
export function requestsTo (app: FastifyInstance, wanted: (route: PlannedRoute) => boolean = () => true): Arbitrary<Generated> {
  const routes = app.plan.routes.filter(route => route.url !== '*' && route.url !== ENDLESS && wanted(route))
  return fc.oneof(...routes.map(route => ({ weight: weightOf(route), arbitrary: requestTo(route) })))
}

function weightOf ({ method, url, kind }: PlannedRoute): number {
  if (COSTLY.test(`${method} ${url}`)) return 1
  return kind === 'head' ? 3 : 10
}

function requestTo (route: PlannedRoute): Arbitrary<Generated> {
  const { params, querystring, body } = (route.options.schema ?? {}) as { params?: Schema, querystring?: Schema, body?: Schema }
  const method = route.method.split(',')[0]!
  const wire = wireOf(body)
  const isUpload = /^\/upload\//.test(route.url)
  return fc.record({
    path: pathOf(route.url, params),
    query: queryOf(querystring),
    method: fc.oneof({ weight: 30, arbitrary: fc.constant(method) }, { weight: 1, arbitrary: fc.constantFrom('GET', 'HEAD', 'OPTIONS', 'PUT', 'PATCH', 'DELETE', 'POST', 'TRACE', 'PROPFIND', 'SEARCH', 'QUERY', 'PURGE', 'M-SEARCH') }),
    caller: callerOf(route),
    extra: oddHeaders,
    content: isUpload ? multipart : method === 'GET' || method === 'HEAD' ? nothing : wire.type === FORM ? formOf(wire.schema!) : jsonOf(wire.schema, wire.type),
  }).map(({ path, query, method, caller, extra, content }) => {
    const { payload, type } = content
    const isOdd = /%(?![2-7][0-9A-F])|\.\.|[^\x21-\x7e]|\/\/|\\/.test(path)
    return {
      route: `${route.method} ${route.url}`,
      way: isOdd && !/[^\x21-\x7e]/.test(path + query) ? 'socket' : 'inject',
      method,
      url: path + query,
      headers: { ...type !== undefined && { 'content-type': type }, ...typeof caller === 'string' ? CALLERS[caller] : caller, ...extra },
      ...typeof caller === 'string' && { caller },
      ...payload !== undefined && { payload },
    }
  })
}

/* Who asks. */

/** Who would ask for this, of {@link CALLERS}. */
export function likelyCaller ({ controls: { access } }: PlannedRoute): string {
  const { via, roles, permissions } = (typeof access === 'object' && access !== null ? access : {}) as { via?: string[], roles?: unknown, permissions?: unknown }
  return String(via) === 'session' ? 'browser' : String(via) === 'key' ? 'program' : roles !== undefined || permissions !== undefined ? 'adam' : access === 'public' ? 'nobody' : 'alice'
}

function callerOf (route: PlannedRoute): Arbitrary<string | Record<string, string>> {
  return fc.oneof(
    { weight: 12, arbitrary: fc.constant<string | Record<string, string>>(likelyCaller(route)) },
    { weight: 6, arbitrary: fc.constantFrom<string | Record<string, string>>(...Object.keys(CALLERS)) },
    {
      weight: 1,
      arbitrary: fc.constantFrom<string | Record<string, string>>(
        { authorization: 'Bearer' }, { authorization: `Bearer ${CANARY}` }, { authorization: 'Bearer a.b.c' }, { authorization: `Basic ${CANARY}` }, { authorization: `bearer  ${'x'.repeat(5000)}` }, { authorization: 'Bearer eyJhbGciOiJub25lIn0.e30.' },
        { authorization: 'Bearer @alice:token@x' }, { authorization: 'Bearer @alice:token@, Bearer @bob:token@' }, { authorization: 'DPoP @alice:token@', dpop: CANARY }, { authorization: 'Bearer @alice:token@', 'x-api-key': '@adam:key@' },
        { 'x-api-key': `sk_live_${CANARY.repeat(10)}1` }, { 'x-api-key': '\x80\xff' }, { authorization: 'Bearer @adam:key@' }, { cookie: '@cookie@' }, { cookie: '@cookie@; @cookie@' }, { cookie: `session=${CANARY}; csrf=%` }, { cookie: 'session=; =; ;;; __proto__=1' }, { cookie: '@cookie@', authorization: 'Bearer @bob:token@' }
      )
    }
  )
}

const NAMES_OF_HEADERS = ['accept', 'accept-encoding', 'accept-language', 'range', 'if-none-match', 'if-match', 'if-range', 'if-modified-since', 'content-encoding', 'content-language', 'expect', 'te', 'x-forwarded-for', 'x-forwarded-host', 'x-forwarded-proto', 'forwarded', 'x-http-method-override', 'x-original-url', 'x-rewrite-url', 'origin', 'sec-fetch-site', 'referer', 'host', 'cookie', 'x-csrf-token', 'dpop', 'user-agent', 'x-request-id', 'traceparent', 'upgrade-insecure-requests', 'prefer', 'link', 'access-control-request-method', 'access-control-request-headers', 'last-event-id', 'idempotency-key', TOLD.toLowerCase(), '__proto__', 'constructor']
const VALUES_OF_HEADERS = ['', ' ', '*', '*/*;q=0', 'text/html', 'gzip', 'gzip, identity;q=0', 'null', 'true', '0', '-1', '1e999', '100-continue', TOLD, `http://${TOLD}.example`, 'http://localhost:5173', 'http://localhost:3000', 'cross-site', 'same-origin', 'GET', 'localhost:3000', 'localhost', 'a@b', '[::1]:3000', 'bytes=0-', 'bytes=0-0,2-3', 'bytes=-1', 'bytes=9-1', 'bytes=x', 'W/"x"', '"x", "y"', 'Sat, 01 Jan 2050 00:00:00 GMT', 'Thu, 99 Foo', ',,,', ';;', '="', '"', '\\', '%00%0d%0a', '\x80\xff', '\t', `${TOLD}=`.repeat(900), `a=${TOLD}; a=${TOLD}`, '#{jndi:ldap://x}', '() { :;}; id', "' or 1=1--", '<script>']

const oddHeaders: Arbitrary<Record<string, string>> = fc.oneof(
  { weight: 7, arbitrary: fc.constant({}) },
  { weight: 3, arbitrary: fc.array(fc.tuple(fc.constantFrom(...NAMES_OF_HEADERS), fc.oneof(fc.constantFrom(...VALUES_OF_HEADERS), fc.string({ maxLength: 30 }).map(text => text.replace(/[^\t\x20-\x7e\x80-\xff]/g, '')))), { minLength: 1, maxLength: 3 }).map(Object.fromEntries) },
  { weight: 1, arbitrary: fc.constant({ origin: 'http://localhost:5173', 'access-control-request-method': 'PUT' }) }
)

/* Where it goes: what stands in a path, as it is written there. */

const ODD_PARTS = ['%00', '%', '%zz', '%c0%ae', '%ff', '%2e%2e%2fetc%2fpasswd', '..%2f..%2f', '%252e%252e', '..', '.', '%0d%0aset-cookie:x=1', '%2f', '%5c', 'a%2Fb', ';a=b', ':', '*', '~', '%e2%80%ae', '%ed%a0%80', '\xff', '%20', '%09', '+', 'a b', '__proto__', 'constructor', 'toString', '%5f%5fproto%5f%5f', 'null', 'undefined', 'NaN', '-1', "'%20or%201=1--", '%3cscript%3e', '{{7*7}}', '%24%7bjndi:ldap://x%7d', 'x'.repeat(64), 'x'.repeat(65), 'x'.repeat(200), 'x'.repeat(201), 'x'.repeat(4000), '%F0%9F%98%80', 'con', 'me', 'me%00', '//', '/', '%2F%2Fevil.example']

function pathOf (url: string, params?: Schema): Arbitrary<string> {
  const parts = url.split('/').slice(1).map(part => {
    if (!/^[:*]/.test(part)) return fc.oneof({ weight: 80, arbitrary: fc.constant(part) }, { weight: 1, arbitrary: fc.constantFrom(part.toUpperCase(), `${part}/`, `${part};x=1`, `${part}%00`, `%${part.charCodeAt(0).toString(16)}${part.slice(1)}`, `./${part}`, `/${part}`, `${part}.`, `${part}%20`, `${part}%2f`, `x/../${part}`) })
    const name = part.replace(':', '')
    const schema = params?.properties?.[name]
    return fc.oneof(
      { weight: 10, arbitrary: fc.constantFrom(...NAMED[name] ?? [CANARY]) },
      { weight: 3, arbitrary: (schema === undefined ? fc.constant(CANARY) : valid(schema)).map(value => encode(String(value))) },
      { weight: 3, arbitrary: fc.constantFrom(...ODD_PARTS) },
      { weight: 1, arbitrary: fc.string({ unit: 'binary', maxLength: 40 }).map(encode) }
    )
  })
  return fc.tuple(...parts).map(parts => `/${parts.join('/')}`.replaceAll(CANARY, TOLD))
}

/** Half of a surrogate pair has no encoding; it is written as CESU-8 would. */
export function encode (text: string): string {
  return text.replace(/\p{Surrogate}/gu, '\ufffd').split(/(@[a-z:]+@)/).map((piece, i) => i % 2 === 1 ? piece : encodeURIComponent(piece)).join('')
}

const ODD_QUERIES = ['x=1', '__proto__=1', '__proto__[a]=1', 'constructor.prototype.a=1', 'limit=1&limit=2', 'limit[]=1', 'limit[$ne]=1', 'limit=0x10', 'limit=1e2', 'limit= 7', 'limit=-1', 'limit=101', 'limit=99999999999999999999', 'limit=NaN', 'limit=', 'limit', '=', '&&&', '%', '%zz=%', 'q=%00', 'q=%ff', 'q=%ed%a0%80', 'q=%F0%9F%98%80', 'q=a+b', `q=${CANARY}&q=${CANARY}`, `q=${'x'.repeat(101)}`, `x=${CANARY.repeat(1000)}`, Array(1500).fill('a=1').join('&'), 'cursor=%27', 'cursor=@post@', '?', '#', 'toString=1', 'hasOwnProperty=x', ';a=b', "q='%20or%201=1--", 'q=%25', 'q=_', 'username=%25', 'q[__proto__]=1', '\u00ff']

function queryOf (schema?: Schema): Arbitrary<string> {
  const odd = fc.constantFrom(...ODD_QUERIES.filter(query => schema?.properties?.host === undefined || !query.startsWith('host')))
  if (schema === undefined) return fc.oneof({ weight: 20, arbitrary: fc.constant('') }, { weight: 1, arbitrary: odd.map(query => `?${query}`) })
  const good = valid(schema).map(values => Object.entries(values as Record<string, unknown>).map(([name, value]) => `${encode(name)}=${encode(String(value))}`).join('&'))
  return fc.oneof(
    { weight: 8, arbitrary: good.map(query => `?${query}`) },
    { weight: 3, arbitrary: fc.tuple(good, odd).map(([query, more]) => `?${query}&${more}`) },
    { weight: 2, arbitrary: odd.map(query => `?${query}`) },
    { weight: 1, arbitrary: fc.constant('') }
  )
}

/* What a schema takes. */

export function valid (schema: Schema, name = ''): Arbitrary<unknown> {
  const own = generated(schema, name)
  const known = NAMED[name]
  if (name === 'host') return fc.constantFrom(...HOSTS)
  if (name === 'amount') return fc.oneof({ weight: 3, arbitrary: fc.constant(ORDER_TOTAL) }, own)
  if (known === undefined || schema.type === 'boolean' || schema.type === 'object') return own
  return schema.type === 'array'
    ? fc.oneof({ weight: 4, arbitrary: fc.subarray([...known], { minLength: schema.minItems ?? 0 }) }, own)
    : fc.oneof({ weight: 5, arbitrary: fc.constantFrom(...known) }, own)
}

function generated (schema: Schema, name: string): Arbitrary<unknown> {
  if (schema.const !== undefined) return fc.constant(schema.const)
  if (schema.anyOf !== undefined) return fc.oneof(...schema.anyOf.map(branch => valid(branch, name)))
  switch (schema.type) {
    case 'string': return textOf(schema)
    case 'integer': return fc.oneof(fc.integer({ min: schema.minimum ?? -1000, max: Math.min(schema.maximum ?? 1000, 2 ** 52) }), fc.constantFrom(schema.minimum ?? 0, schema.maximum ?? 0))
    case 'number': return fc.double({ min: schema.minimum ?? -1e6, max: schema.maximum ?? 1e6, noNaN: true })
    case 'boolean': return fc.boolean()
    case 'null': return fc.constant(null)
    case 'array': {
      const bounds = { minLength: schema.minItems ?? 0, maxLength: Math.min(schema.maxItems ?? 5, 12) }
      const item = valid(schema.items ?? {}, '')
      return schema.uniqueItems === true ? fc.uniqueArray(item, bounds) : fc.array(item, bounds)
    }
    case 'object': {
      const fields = Object.fromEntries(Object.entries(schema.properties ?? {}).map(([field, part]) => [field, valid(part, field)]))
      return fc.record(fields, { requiredKeys: schema.required ?? [] }) as Arbitrary<unknown>
    }
    default: return fc.jsonValue({ maxDepth: 2 })
  }
}

function textOf ({ pattern, minLength = 0, maxLength = 200, examples = [] }: Schema): Arbitrary<string> {
  const form = pattern === undefined ? null : new RegExp(pattern, 'u')
  const fits = (text: string) => (form === null || form.test(text)) && [...text].length >= minLength && [...text].length <= maxLength
  const withCanary = (text: string) => [`${text}${CANARY}`, `${CANARY}${text}`, `${CANARY}${text.slice(CANARY.length)}`, CANARY, `${CANARY}@people.example`, `https://a.example/${CANARY}`].find(fits) ?? text
  const made = [
    ...examples.length > 0 ? [fc.constantFrom(...examples as string[])] : [],
    ...[() => fc.stringMatching(form!, { maxLength: 60, size: 'max' }), () => fc.string({ unit: 'grapheme', maxLength: 60, size: 'max' }), () => fc.string({ unit: 'binary', maxLength: 60, size: 'max' })].flatMap((make, i) => {
      if (i === 0 && form === null) return []
      try {
        return [make()]
      } catch {
        return [] // a pattern that looks ahead
      }
    }),
    fc.constantFrom(minLength, maxLength).map(length => 'a'.repeat(length)),
  ]
  return fc.oneof(...made).map(text => fits(text) ? withCanary(text) : withCanary(String(examples[0] ?? 'a'.repeat(Math.max(1, minLength)))))
}

/** One value that the schema takes, with all of its fields. */
export function sampleOf (schema: Schema, name = ''): unknown {
  if (schema.const !== undefined) return schema.const
  if (schema.anyOf !== undefined) return sampleOf(schema.anyOf[0]!, name)
  const [known] = name === 'host' ? ['127.0.0.1'] : NAMED[name] ?? []
  switch (schema.type) {
    case 'string': return known ?? schema.examples?.[0] ?? (schema.pattern === undefined ? 'Long enough text' : 'abc')
    case 'integer': case 'number': return name === 'amount' ? ORDER_TOTAL : schema.minimum ?? 1
    case 'boolean': return true
    case 'array': return [schema.items === undefined ? known : known ?? sampleOf(schema.items)]
    case 'object': return Object.fromEntries(Object.entries(schema.properties ?? {}).map(([field, part]) => [field, sampleOf(part, field)]))
    default: return null
  }
}

/** Each text in a body, and how another one is put in its place. */
export function textsIn (schema?: Schema, name = ''): { schema: Schema, name: string, put: (text: string) => unknown }[] {
  if (schema === undefined || schema.const !== undefined) return []
  if (schema.anyOf !== undefined) return schema.anyOf.flatMap(branch => textsIn(branch, name))
  if (schema.type === 'string') return [{ schema, name, put: text => text }]
  if (schema.type === 'array') return textsIn(schema.items, '').map(({ put, ...text }) => ({ ...text, put: string => [put(string)] }))
  return Object.entries(schema.properties ?? {}).flatMap(([field, part]) => textsIn(part, field)
    .map(({ put, ...text }) => ({ ...text, put: string => ({ ...sampleOf(schema) as object, [field]: put(string) }) })))
}

/* How it is sent. */

export const FORM = 'application/x-www-form-urlencoded'
const JSON_TYPE = 'application/json'
const text: Schema = { type: 'string' }
/** What a browser reports: more than what its route reads. */
const REPORTS: Schema = {
  type: 'array',
  items: { type: 'object', required: ['type', 'body'], properties: { type: { type: 'string', const: 'csp-violation', examples: ['csp-violation'] }, body: { type: 'object', properties: { documentURL: text, effectiveDirective: text, blockedURL: text, disposition: text, sample: text } } } },
}

/** The media type of a route's body, and what is in it. */
export function wireOf (body?: Schema): { type: string, schema?: Schema } {
  const [first] = Object.entries(body?.content ?? {})
  if (first === undefined) return { type: JSON_TYPE, ...body !== undefined && { schema: body } }
  const [type, { schema }] = first
  return { type, schema: type === 'application/reports+json' ? REPORTS : schema }
}

/* What is bent. */

const nested = (depth: number): unknown => JSON.parse('['.repeat(depth) + ']'.repeat(depth))
const STRANGE: readonly unknown[] = [
  null, true, false, 0, -1, 1, 12, 13, 150, 151, 0.5, -0.5, 2 ** 31, 2 ** 53 - 1, 1e12 + 1, 1e308, -1e308, '', ' ', '0', 'true', 'null', 'NaN', [], {}, [[]], [null], [{}], { $ne: null }, { $gt: '' }, { length: 1e9 }, { toString: 1 }, { then: 1 }, { toJSON: null }, { '': 0 }, ['a', 'b'], { 0: 'a', length: 1 },
  CANARY, `${CANARY}\u0000`, '\u0000', '\ud800', `\udc00${CANARY}`, '\ufeff', '\u202e', '\u2028', '\r\n', `a\r\nSet-Cookie: ${CANARY}=1`, '😀', 'e\u0301'.repeat(30), '\u0130', 'ß'.repeat(10), '漢字', 'A\u030a', '<script>', '%00', '%s%n', '../../etc/passwd', '#{7*7}', "'; drop table users;--", '__proto__', 'constructor',
  'x'.repeat(51), 'x'.repeat(101), 'x'.repeat(201), 'x'.repeat(255), 'x'.repeat(501), 'x'.repeat(1025), 'x'.repeat(2001), 'x'.repeat(4097), 'x'.repeat(10_001), '&'.repeat(3000), '<b>'.repeat(900), ' '.repeat(5000), '\n'.repeat(200), 'x'.repeat(100_001), nested(5), nested(63), nested(65), Array(101).fill('a'), Array(10_001).fill(0), Object.fromEntries(Array.from({ length: 200 }, (_none, i) => [`k${i}`, i])),
]
const FIELDS = ['role', 'isAdmin', 'id', '', 'constructor', '__proto__', 'prototype', 'toString', 'hasOwnProperty', 'length', 'x'.repeat(300), 'a.b', 'a[b]', '$where', '\u0000', '\ud800', 'usern\u0430me', 'Password', '/', '~1', 'cvv', 'x'.repeat(70)]

type Bend = (value: unknown) => unknown
type BendText = (text: string) => string

/** Where something stands in a value: what holds it, and its name there. */
function placesIn (value: unknown, found: [Record<string, unknown>, string][] = []): [Record<string, unknown>, string][] {
  if (typeof value === 'object' && value !== null) {
    for (const key of Object.keys(value)) {
      found.push([value as Record<string, unknown>, key])
      placesIn((value as Record<string, unknown>)[key], found)
    }
  }
  return found
}

function atPlace (i: number, change: (holder: Record<string, unknown>, key: string) => void): Bend {
  return value => {
    const copy = structuredClone(value)
    const places = placesIn(copy)
    if (places.length > 0) change(...places[i % places.length]!)
    return copy
  }
}

const strange = fc.oneof({ weight: 3, arbitrary: fc.constantFrom(...STRANGE) }, { weight: 1, arbitrary: fc.jsonValue({ maxDepth: 3, stringUnit: 'binary' }) })
const place = fc.nat(40)

const bends: Arbitrary<Bend> = fc.oneof(
  { weight: 6, arbitrary: fc.tuple(place, strange).map(([i, what]): Bend => atPlace(i, (holder, key) => { holder[key] = what })) },
  { weight: 2, arbitrary: place.map((i): Bend => atPlace(i, (holder, key) => { delete holder[key] })) },
  { weight: 2, arbitrary: place.map((i): Bend => atPlace(i, (holder, key) => { holder[key] = [holder[key]] })) },
  { weight: 1, arbitrary: place.map((i): Bend => atPlace(i, (holder, key) => { holder[key] = { [key]: holder[key] } })) },
  { weight: 2, arbitrary: place.map((i): Bend => atPlace(i, (holder, key) => { holder[key] = typeof holder[key] === 'string' ? Number(holder[key]) || 7 : JSON.stringify(holder[key]) })) },
  { weight: 2, arbitrary: fc.tuple(place, fc.constantFrom(' ', '\u0000', '\ud83d', '\r\n', '\u200b', 'é', "'", '%', '\\', '\ufeff')).map(([i, sign]): Bend => atPlace(i, (holder, key) => { if (typeof holder[key] === 'string') holder[key] += sign })) },
  {
    weight: 3,
    arbitrary: fc.tuple(fc.constantFrom(...FIELDS), strange).map(([name, what]): Bend => value => {
      if (typeof value !== 'object' || value === null || Array.isArray(value)) return value
      const copy = structuredClone(value)
      // By definition: an assignment to `__proto__` would be none.
      return Object.defineProperty(copy, name, { value: what, enumerable: true, configurable: true, writable: true })
    })
  },
  { weight: 1, arbitrary: strange.map((what): Bend => () => what) },
  { weight: 1, arbitrary: fc.constant<Bend>(value => [value]) }
)

const bendsOfText: Arbitrary<BendText> = fc.oneof(
  fc.nat(200).map((n): BendText => text => text.slice(0, n % (text.length + 1))),
  fc.nat(200).map((n): BendText => text => {
    const at = n % (text.length + 1)
    return `${text.slice(0, at)}\xff${text.slice(at)}`
  }),
  fc.tuple(fc.nat(200), fc.constantFrom('"', '{', '}', '[', ',', ':', '\\', '\\u0000', '\\ud800', '\\u005f', '\x00', '\n', '0', '-', 'e', "'", '/**/')).map(([n, sign]): BendText => text => {
    const at = n % (text.length + 1)
    return text.slice(0, at) + sign + text.slice(at)
  }),
  fc.constantFrom<BendText>(
    text => `\xef\xbb\xbf${text}`, text => `\xff\xfe${text}`, text => `${text}x`, text => `${text}${text}`, text => ` \t\r\n${text} `, text => text.replaceAll('"', "'"),
    // The first field once more, and as an escape of itself.
    text => text.replace(/^\{("[^"]*":)/, '{$1null,$1'), text => text.replace(/^\{"(.)/, (_all, sign: string) => `{"\\u${sign.charCodeAt(0).toString(16).padStart(4, '0')}`), text => text.replace(/^\{/, '{"__proto__":{"isAdmin":true},'), text => text.replace(/^\{/, '{"\\u005f_proto__":1,'), text => text.replace(/^\{/, '{"constructor":{"prototype":{"a":1}},'),
    text => text.replace(/:("[^"]*"|\d+)/, ':1e999'), text => text.replace(/:("[^"]*"|\d+)/, ':-0'), text => text.replace(/:("[^"]*"|\d+)/, ':01'), text => text.replace(/:("[^"]*"|\d+)/, ':NaN'), text => text.replace(/:("[^"]*"|\d+)/, `:${'9'.repeat(400)}`), text => text.replace(/:("[^"]*"|\d+)/, ':1.0000000000000000000000001'),
    () => '', () => ' ', () => 'null', () => '[]', () => '{}', () => '""', () => '0', () => '{', () => '\x00', () => '['.repeat(20_000), () => '{"a":'.repeat(20_000), () => `{${Array.from({ length: 11_000 }, (_none, i) => `"k${i}":1`).join(',')}}`, () => `"${'x'.repeat(270_000)}"`, () => `[${'1,'.repeat(12_000)}1]`, text => Buffer.from(text, 'utf16le').toString('latin1'), text => encodeURIComponent(text)
  )
)

const TYPES: readonly (string | undefined)[] = ['application/json; charset=utf-8', 'Application/JSON', 'application/json;charset=utf-16', 'application/json; charset="utf-8"', 'application/json ', '\tapplication/json', 'application/json\t;', 'application/json;', 'application/json, text/plain', 'application/json; boundary=x', 'application/jsonx', 'application/vnd.api+json', 'application/ld+json', 'text/json', 'text/plain', 'text/html', 'application/x-www-form-urlencoded', 'multipart/form-data', 'multipart/form-data; boundary=x', 'multipart/form-data; boundary=', 'application/xml', 'application/octet-stream', 'application/grpc', '*/*', 'json', '', ';', '/', `text/${CANARY}`, 'application/json; a="', 'x'.repeat(3000), '\xff', undefined]

interface Content { payload?: string, type?: string }
const nothing: Arbitrary<Content> = fc.oneof({ weight: 25, arbitrary: fc.constant<Content>({}) }, { weight: 1, arbitrary: fc.constantFrom<Content>({ payload: '{}', type: 'application/json' }, { payload: CANARY }, { type: 'application/json' }) })

function asBytes (text: string): string {
  return Buffer.from(text).toString('latin1')
}

function contentOf (texts: Arbitrary<string>, bent: Arbitrary<string>, type: string): Arbitrary<Content> {
  return fc.oneof(
    { weight: 8, arbitrary: texts.map(payload => ({ payload, type })) },
    { weight: 8, arbitrary: bent.map(payload => ({ payload, type })) },
    { weight: 4, arbitrary: fc.tuple(texts, bendsOfText).map(([text, bend]) => ({ payload: bend(text), type })) },
    { weight: 2, arbitrary: fc.tuple(texts, fc.constantFrom(...TYPES)).map(([payload, other]) => ({ payload, ...other !== undefined && { type: other } })) },
    { weight: 1, arbitrary: fc.constant({}) }
  )
}

function jsonOf (schema?: Schema, type = JSON_TYPE): Arbitrary<Content> {
  if (schema === undefined || isNoBody(schema)) return fc.oneof({ weight: 6, arbitrary: nothing }, { weight: 1, arbitrary: fc.constantFrom<Content>({ payload: '{}', type: 'application/json' }, { payload: 'null', type: 'application/json' }) }, { weight: 1, arbitrary: contentOf(fc.constant('{}'), strange.map(what => asBytes(JSON.stringify(what))), 'application/json') })
  const values = valid(schema)
  return contentOf(
    values.map(value => asBytes(JSON.stringify(value))),
    fc.tuple(values, fc.array(bends, { minLength: 1, maxLength: 2 })).map(([value, all]) => asBytes(JSON.stringify(all.reduce((bent, bend) => bend(bent), value)) ?? '')),
    type
  )
}

function isNoBody ({ anyOf }: Schema): boolean {
  return anyOf?.length === 2 && anyOf[0]?.type === 'null' && Object.keys(anyOf[1]?.properties ?? { a: 1 }).length === 0
}

function formOf (schema: Schema): Arbitrary<Content> {
  const pairs = valid(schema).map(value => Object.entries(value as Record<string, string>).map(([name, value]) => `${encode(name)}=${encode(String(value))}`).join('&'))
  return contentOf(pairs, fc.tuple(pairs, fc.constantFrom(...ODD_QUERIES, 'grant_type=password', 'grant_type=client_credentials', 'scope=%22', 'token=%ff', 'password=%00', 'username=', `scope=${CANARY}`)).map(([text, more]) => asBytes(`${text}&${more}`)), FORM)
}

/* Forms with files. */

const PNG = Buffer.from('iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==', 'base64').toString('latin1')
const FILES = [PNG, PNG, PNG, `${PNG}<script>${CANARY}</script>`, PNG.slice(0, 40), PNG.slice(8), `GIF89a${CANARY}`, 'GIF87a\x01\x00\x01\x00\x80\x00\x00\xff\xff\xff\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;', '\xff\xd8\xff\xe0', 'RIFF\x04\x00\x00\x00WEBP', '%PDF-1.7\n%%EOF', `%PDF-1.4\n1 0 obj\n<</Type/Catalog/OpenAction<</S/JavaScript/JS(${CANARY})>>>>\nendobj\n%%EOF`, 'PK\x03\x04', 'PK\x05\x06\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00', '<svg xmlns="http://www.w3.org/2000/svg" onload="x"/>', '', '\x00', CANARY, 'x'.repeat(100_000), 'MZ\x90', '#!/bin/sh\n']
const FILE_NAMES = ['a.png', 'a.png', 'a.gif', 'a.jpg', 'a.webp', 'a.pdf', 'a.docx', 'a.svg', 'a.php.png', 'a.png.php', '../../a.png', '..\\a.png', '/etc/passwd', 'C:\\a.png', 'a\x00.png', 'a.png\x00.php', 'con.png', '.png', 'a', '', `${CANARY}.png`, `${'x'.repeat(300)}.png`, '\u202egnp.a', 'é.png', 'a".png', "a'.png", 'a;.png', '%2e%2e%2fa.png', 'a.png\r\nX: y', '<b>.png', 'a.PNG', 'a.png ', 'a.png.']
const PART_NAMES = ['file', 'file', 'file', 'file', 'File', 'x', '', '__proto__', 'constructor', 'toString', 'file[]', CANARY, 'x'.repeat(200), 'file"; x="', '\x00']
const PART_TYPES = ['image/png', 'image/png', 'image/jpeg', 'image/gif', 'application/pdf', 'text/html', 'image/svg+xml', '', 'multipart/mixed; boundary=x', 'image/png; charset=x', 'x', '\xff']

const part = fc.record({ name: fc.constantFrom(...PART_NAMES), filename: fc.option(fc.constantFrom(...FILE_NAMES), { nil: null, freq: 8 }), type: fc.constantFrom(...PART_TYPES), content: fc.constantFrom(...FILES), more: fc.constantFrom('', '', '', '', 'Content-Transfer-Encoding: base64\r\n', 'Content-Disposition: form-data; name="x"\r\n', 'X: y\r\n'.repeat(50), ': x\r\n') })
const goodPart: typeof part = fc.constant({ name: 'file', filename: 'a.png', type: 'image/png', content: PNG, more: '' })

const multipart: Arbitrary<Content> = fc.record({
  parts: fc.oneof({ weight: 2, arbitrary: fc.tuple(goodPart) }, { weight: 3, arbitrary: fc.array(part, { maxLength: 3 }) }),
  boundary: fc.constantFrom('b', 'b', 'b', TOLD, '----x', 'a b', 'x'.repeat(70), 'x'.repeat(300)),
  said: fc.option(fc.constantFrom('', 'other', '"b"', '"', 'b; boundary=c', '--b'), { nil: null, freq: 6 }),
  cut: fc.option(fc.nat(400), { nil: null, freq: 3 }),
  end: fc.constantFrom('--', '--', '--', '', '--\r\nepilogue', '-'),
  newline: fc.constantFrom('\r\n', '\r\n', '\r\n', '\n', '\r'),
}).map(({ parts, boundary, said, cut, end, newline }) => {
  const text = parts.map(({ name, filename, type, content, more }) => `--${boundary}${newline}Content-Disposition: form-data; name="${name}"${filename === null ? '' : `; filename="${asBytes(filename)}"`}${newline}${type === '' ? '' : `Content-Type: ${type}${newline}`}${more}${newline}${content}${newline}`).join('') + `--${boundary}${end}${newline}`
  return { payload: cut === null ? text : text.slice(0, cut % (text.length + 1)), type: `multipart/form-data; boundary=${said ?? boundary}` }
})
