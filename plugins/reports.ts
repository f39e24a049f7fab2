/**
 * Reports: what browsers say that a Content-Security-Policy stopped, or would have stopped.
 *
 * Threat: a script that a policy stopped and of which nobody hears (ASVS 3.4.7); and a collector to which anybody can send anything: floods
 * (CWE-770), lines in the log that are made up (CWE-117), and what was in the page: reports quote code, and URLs hold tokens (CWE-532).
 * Defence: one public route that takes two media types, small bodies, and few of them from one address. Of a report only what has a known form
 * is read: the path, the directive, the origin. Like reports are one event a minute, and unlike ones are few.
 * Not covered: whether a report is true. It weighs no more than the word of anybody who can send a request.
 * Sources: CSP Level 3, 5; Reporting API.
 */
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { createError } from '@fastify/error'
import { Type, type Static } from '@sinclair/typebox'
import fp from 'fastify-plugin'
import { closed } from '../schemas/closed.js'
import { measured } from './measured.js'
import { checkOptions } from './options.js'
import { createRefusal } from './refusal.js'

declare module 'fastify' {
  interface FastifyInstance {
    reports: Reports
  }
}

/** The instance decorator `app.reports`. */
export interface Reports {
  /** Where they are collected: what all policies name that name no other place. */
  readonly path: string
}

/** An option of the reports concern is wrong. */
export const ReportsMisconfigured = createError<[string]>('FST_BASTION_REPORTS_MISCONFIGURED', '%s', 500, TypeError)
/** No JSON, or none that a browser would send. */
export const ReportMalformed = createRefusal('FST_BASTION_REPORTS_MALFORMED', 'The body is no report of a browser', 400)

export const ReportsOptions = Type.Object({
  path: Type.Optional(Type.String({ pattern: '^(?:/[A-Za-z0-9._~-]+)+$', description: 'The route that takes them', default: '/reports/csp' })),
  windows: Type.Optional(Type.Array(Type.String(), { minItems: 1, description: 'How many requests an address may send; each may hold a hundred reports', default: ['60/minute'] })),
}, { additionalProperties: false })
export type ReportsOptions = Static<typeof ReportsOptions> & {
  /** Milliseconds since the epoch; for tests. */
  now?: () => number
}

/** By `report-uri`, and by `report-to`. */
const LEGACY_TYPE = 'application/csp-report'
const REPORTS_TYPE = 'application/reports+json'
/** Bytes of a body, and reports in it. */
const MAX_BYTES = 65_536
const MAX_REPORTS = 100
const MAX_PATH = 200
/** Milliseconds in which like reports are recorded once. */
const QUIET_MS = 60_000
/** Kinds of reports in that time; what there is no room for is one kind. */
const MAX_KINDS = 50

const UNKNOWN = 'unknown'
const DIRECTIVES = new Set([
  'default-src', 'script-src', 'script-src-elem', 'script-src-attr', 'style-src', 'style-src-elem', 'style-src-attr', 'img-src', 'font-src', 'connect-src', 'media-src',
  'object-src', 'frame-src', 'child-src', 'worker-src', 'manifest-src', 'fenced-frame-src', 'prefetch-src', 'base-uri', 'form-action', 'frame-ancestors', 'sandbox',
  'require-trusted-types-for', 'trusted-types', 'upgrade-insecure-requests',
])
/** What was blocked, where it has no URL: `inline`, `eval`, `trusted-types-sink`; or a scheme alone. */
const WORD = /^[a-z][a-z0-9+.-]{0,31}$/
const MAX_ORIGIN = 128

/** A report, as far as it is read. */
const Violation = closed({
  document: Type.String({ maxLength: MAX_PATH, description: 'The path of the page, without its query' }),
  directive: Type.String({ maxLength: 32 }),
  blocked: Type.String({ maxLength: MAX_ORIGIN, description: 'The origin of what was blocked, or its kind' }),
  disposition: Type.Union([Type.Literal('enforce'), Type.Literal('report')]),
})
type Violation = Static<typeof Violation>
const Violations = closed({ violations: Type.Array(Violation, { maxItems: MAX_REPORTS }) })

async function reports (app: FastifyInstance, options: ReportsOptions): Promise<void> {
  const { now = Date.now, ...plain } = options
  checkOptions(ReportsOptions, plain, 'reports', ReportsMisconfigured)
  const { path = '/reports/csp', windows = ['60/minute'] } = plain
  const count = measured(app).counter('bastion_violation_reports_total', 'Violations of Content-Security-Policy that browsers reported')
  const kinds = app.events.runs('violation_reported', { quietMs: QUIET_MS, max: MAX_KINDS, now })

  app.decorate('reports', { path })
  app.plan.contribute({
    concern: 'reports',
    compile: ({ method, url }) => method === 'POST' && url === path ? { promise: { bytes: MAX_BYTES, events: `${MAX_KINDS + 1} in ${QUIET_MS / 1000} s` } } : undefined,
  })
  // At the root: a scope would know nothing of what concerns that come later give to requests. No other route takes these types: validation refuses what is not declared.
  app.addContentTypeParser([LEGACY_TYPE, REPORTS_TYPE], { parseAs: 'buffer' }, function readReports (request, body, done) {
    try {
      done(null, { violations: violationsIn(JSON.parse(String(body)), request.mediaType === LEGACY_TYPE) })
    } catch {
      done(new ReportMalformed())
    }
  })
  app.post(path, {
    bodyLimit: MAX_BYTES,
    // For browsers: what is validated is what the parser leaves of a report, so it is in no document of the API.
    schema: { hide: true, body: { content: { [REPORTS_TYPE]: { schema: Violations }, [LEGACY_TYPE]: { schema: Violations } } }, response: { 204: Type.Null() } } as never,
    // Browsers send them by themselves: with cookies, from whatever page has the policy, and without a token. Nothing is changed by them.
    config: { access: 'public', csrf: false, limits: { windows, by: 'address' } },
  }, async (request, reply) => {
    for (const violation of (request.body as Static<typeof Violations>).violations) tell(violation, request)
    reply.code(204)
  })

  function tell (violation: Violation, request: FastifyRequest): void {
    count()
    kinds.record(Object.values(violation).join(' '), request, violation, { shared: { shared: true } })
  }
}

/** @throws where it is not what browsers send */
function violationsIn (body: unknown, isLegacy: boolean): Violation[] {
  if (isLegacy) {
    const report = fieldsOf(fieldsOf(body)['csp-report'])
    return [violationOf(report['document-uri'], report['effective-directive'] ?? report['violated-directive'], report['blocked-uri'], report.disposition)]
  }
  // What browsers report of other things is not collected here.
  return [body].flat().map(fieldsOf).filter(({ type }) => type === 'csp-violation').map(({ body }) => {
    const { documentURL, effectiveDirective, blockedURL, disposition } = fieldsOf(body)
    return violationOf(documentURL, effectiveDirective, blockedURL, disposition)
  })
}

function violationOf (document: unknown, directive: unknown, blocked: unknown, disposition: unknown): Violation {
  // What browsers did before CSP 3 names the sources of the directive too.
  const [name = ''] = String(directive).split(' ', 1)
  return {
    document: pathOf(document),
    directive: DIRECTIVES.has(name) ? name : UNKNOWN,
    blocked: originOf(blocked),
    disposition: disposition === 'report' ? 'report' : 'enforce',
  }
}

/** As the parser of URLs writes it: ASCII, with nothing in it that ends a line. */
function pathOf (url: unknown): string {
  if (typeof url !== 'string' || !/^https?:/.test(url) || !URL.canParse(url)) return UNKNOWN
  return new URL(url).pathname.slice(0, MAX_PATH)
}

function originOf (url: unknown): string {
  if (typeof url !== 'string') return UNKNOWN
  if (WORD.test(url)) return url
  if (!URL.canParse(url)) return UNKNOWN
  const { origin, protocol } = new URL(url)
  if (origin !== 'null') return origin.slice(0, MAX_ORIGIN)
  return WORD.test(protocol.slice(0, -1)) ? protocol.slice(0, -1) : UNKNOWN
}

function fieldsOf (value: unknown): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new ReportMalformed()
  return value as Record<string, unknown>
}

export default fp(reports, { fastify: '5.x', name: 'bastion-reports', dependencies: ['bastion-plan', 'bastion-events', 'bastion-limits', 'bastion-access', 'bastion-validation'] })
