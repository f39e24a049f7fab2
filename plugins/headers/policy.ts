/** Policies: which headers a route sends, asked of helmet itself once a policy, at boot. */
import { validateHeaderValue } from 'node:http'
import helmet, { type FastifyHelmetOptions } from '@fastify/helmet'
import { Type, type Static, type TLiteral } from '@sinclair/typebox'
import Fastify from 'fastify'
import { HeadersMisconfigured } from './errors.js'

const oneOf = <Name extends string>(names: readonly Name[], options: object) => Type.Union(names.map(name => Type.Literal(name)) as TLiteral<Name>[], options)
const Directives = Type.Record(Type.String(), Type.Union([Type.Array(Type.String()), Type.String()]))
const policy = (options: object) => Type.Optional(Type.Union([Directives, Type.Literal('api'), Type.Literal('page')], options))

/** What the suite says for all routes, and each route for itself. */
export const Overrides = Type.Object({
  contentSecurityPolicy: policy({
    description: '`api`: nothing may load; `page`: own files, and code with the nonce; or directives of your own, in which `{nonce}` is replaced',
    default: 'api',
  }),
  contentSecurityPolicyReportOnly: policy({ description: 'A stricter policy to try beside the one that is enforced: what it would stop is reported and nothing else. Needs `reportUri`, or `reports`' }),
  reportUri: Type.Optional(Type.Union([Type.String({ pattern: '^(?:/(?![/\\\\])|https://)[!#-+\\--:<-\\[\\]-~]*$' }), Type.Literal(false)], {
    description: 'Where browsers report what Content-Security-Policy stopped: a path, or a URL with https. Default: the collector of `reports`, where it is registered; `false`: nowhere',
  })),
  cacheControl: Type.Optional(Type.String({ description: 'Cache-Control of answers that set none', default: 'no-store' })),
  permissionsPolicy: Type.Optional(Type.Union([Type.String(), Type.Array(Type.String({ pattern: '^[a-z][a-z0-9-]*$' }), { uniqueItems: true })], {
    description: 'Names of the powerful features that the page itself may use (`publickey-credentials-get`, `publickey-credentials-create` for passkeys), or a whole Permissions-Policy of your own; by default all are off',
  })),
  crossOriginResourcePolicy: Type.Optional(oneOf(['same-origin', 'same-site', 'cross-origin'], { description: 'Which sites may embed the answer', default: 'same-origin' })),
  crossOriginOpenerPolicy: Type.Optional(oneOf(['same-origin', 'same-origin-allow-popups', 'noopener-allow-popups', 'unsafe-none'], {
    description: 'Which windows of others a page shares its group with: `same-origin-allow-popups` for one that opens a payment or a sign-in of another origin and waits for its word', default: 'same-origin',
  })),
  crossOriginEmbedderPolicy: Type.Optional(oneOf(['require-corp', 'credentialless', 'unsafe-none'], {
    description: 'What a page embeds of others: only what says so, or what comes without cookies. A page is isolated by one of these two and the opener policy `same-origin`', default: 'require-corp',
  })),
  xssProtection: Type.Optional(oneOf(['0', '1; mode=block'], {
    description: "X-XSS-Protection: `0` keeps the filter of old browsers off, which leaked more than it stopped; `1; mode=block` where somebody's rules ask for it", default: '0',
  })),
}, { additionalProperties: false })

/** Of a route alone. */
export const RouteHeaders = Type.Composite([Overrides, Type.Object({
  clearSiteData: Type.Optional(Type.Array(oneOf(['cookies', 'storage', 'cache', 'executionContexts', '*'], {}), { minItems: 1, uniqueItems: true })),
})], { additionalProperties: false })

export type HeaderOverrides = Static<typeof Overrides> & {
  /**
   * What the browser forgets of this site with an answer that succeeded, for sign-outs: `['cookies', 'storage']`. Over HTTPS only, and never with
   * a refusal, or another site could have it done. Cookies are those of the whole registered domain, of its other hosts too.
   */
  clearSiteData?: readonly ('cookies' | 'storage' | 'cache' | 'executionContexts' | '*')[]
}

type Headers = Record<string, string>

const DENIED_FEATURES = [
  'accelerometer', 'autoplay', 'camera', 'display-capture', 'encrypted-media', 'fullscreen', 'geolocation', 'gyroscope', 'magnetometer', 'microphone', 'midi',
  'payment', 'picture-in-picture', 'publickey-credentials-create', 'publickey-credentials-get', 'screen-wake-lock', 'usb', 'web-share', 'xr-spatial-tracking',
]

/** What stands for the nonce of an answer. */
export const NONCE = '{nonce}'
const NONCED = `'nonce-${NONCE}'`
const API_POLICY = { 'default-src': ["'none'"], 'base-uri': ["'none'"], 'form-action': ["'none'"], 'frame-ancestors': ["'none'"] }
/**
 * Without `'unsafe-inline'` and `https:`, which csp_evaluator suggests for browsers that know no nonces: those run no modules either, and
 * in those that know nonces but not `'strict-dynamic'` `https:` would let in the scripts of anybody.
 */
const PAGE_POLICY = {
  'default-src': ["'none'"],
  'script-src': [NONCED, "'strict-dynamic'"],
  'style-src': ["'self'", NONCED],
  'img-src': ["'self'", 'data:'],
  'font-src': ["'self'"],
  'connect-src': ["'self'"],
  'manifest-src': ["'self'"],
  'base-uri': ["'none'"],
  'form-action': ["'self'"],
  'frame-ancestors': ["'none'"],
  'require-trusted-types-for': ["'script'"],
}
export const POLICIES = ['content-security-policy', 'content-security-policy-report-only']
/** The name under which policies mean the endpoint (Reporting API). */
const ENDPOINT = 'csp'

/** Asks helmet itself which headers it sends: over plain HTTP, and what is different over HTTPS. */
export async function computeHeaders (wanted: HeaderOverrides): Promise<{ plain: Headers, secure: Headers }> {
  const { contentSecurityPolicy = 'api', contentSecurityPolicyReportOnly: tried } = wanted
  const plain = await askHelmet({
    contentSecurityPolicy: directivesOf(contentSecurityPolicy, wanted),
    crossOriginResourcePolicy: { policy: wanted.crossOriginResourcePolicy ?? 'same-origin' },
    crossOriginOpenerPolicy: { policy: (wanted.crossOriginOpenerPolicy ?? 'same-origin') as 'same-origin' },
    crossOriginEmbedderPolicy: { policy: wanted.crossOriginEmbedderPolicy ?? 'require-corp' },
    frameguard: { action: 'deny' },
    hsts: false,
  })
  if (tried !== undefined) plain[POLICIES[1]!] = (await askHelmet({ contentSecurityPolicy: directivesOf(tried, wanted) }))[POLICIES[0]!]!
  plain['permissions-policy'] = featuresOf(wanted.permissionsPolicy ?? [])
  plain['cache-control'] = wanted.cacheControl ?? 'no-store'
  plain['x-xss-protection'] = wanted.xssProtection ?? '0'
  for (const [name, value] of Object.entries(plain)) refuseUnsendable(name, value)
  return { plain, secure: { ...plain, ...reportedTo(plain, wanted.reportUri) } }
}

/** Browsers that know `report-to` do not look at `report-uri`, and report by it over HTTPS alone: over plain HTTP it would be nowhere. */
function reportedTo (plain: Headers, uri: string | false | undefined): Headers {
  if (typeof uri !== 'string') return {}
  const policies = POLICIES.filter(name => plain[name]?.endsWith(`;report-uri ${uri}`))
  return {
    ...Object.fromEntries(policies.map(name => [name, `${plain[name]};report-to ${ENDPOINT}`])),
    ...(policies.length > 0 && { 'reporting-endpoints': `${ENDPOINT}="${uri}"` }),
  }
}

function directivesOf (csp: Exclude<HeaderOverrides['contentSecurityPolicy'], undefined>, { reportUri }: HeaderOverrides) {
  const directives: Record<string, string | string[]> = csp === 'api' ? API_POLICY : csp === 'page' ? PAGE_POLICY : csp
  // Whoever says it themselves has the last word.
  const isReported = typeof reportUri === 'string' && !Object.keys(directives).some(name => /^report-?(?:uri|to)$/i.test(name))
  return { useDefaults: false, directives: { ...directives, ...(isReported && { 'report-uri': [reportUri] }) } }
}

/** The features that are named are the page's own, and the others are off, for it and for what it frames. */
function featuresOf (policy: string | string[]): string {
  if (typeof policy === 'string') return policy
  return [...policy.map(feature => `${feature}=(self)`), ...DENIED_FEATURES.filter(feature => !policy.includes(feature)).map(feature => `${feature}=()`)].join(', ')
}

async function askHelmet (options: FastifyHelmetOptions): Promise<Headers> {
  const probe = Fastify()
  try {
    await probe.register(helmet, options)
    probe.get('/', (_request, reply) => { reply.code(204).send() })
    const { statusCode, headers, body } = await probe.inject('/')
    // helmet looks at its options when it answers.
    if (statusCode !== 204) throw new Error(JSON.parse(body).message)
    return Object.fromEntries(Object.entries(headers).filter(([name]) => name !== 'date' && name !== 'connection').map(([name, value]) => [name, String(value)]))
  } catch (error) {
    throw new HeadersMisconfigured(`headers: ${(error as Error).message}`)
  } finally {
    await probe.close()
  }
}

function refuseUnsendable (name: string, value: string): void {
  try {
    validateHeaderValue(name, value)
  } catch {
    throw new HeadersMisconfigured(`headers: the value for ${name} holds characters that no header can`)
  }
}
