/**
 * Versions: routes that are on their way out say so, say when, and end when they said.
 *
 * Threat: old versions that nobody looks after and that stay reachable (OWASP API9:2023, CWE-1059), and clients that break unwarned.
 * Defence: `Deprecation` (RFC 9745), `Sunset` (RFC 8594) and `Link` to the successor on every answer of such a route, refusals too; from its
 * sunset on 410, for everybody, before authorization and without its handler, and counted by the limits as before. Who still
 * uses it is counted: in a report, in events and in metrics. Dates come to pass without a restart.
 * Not covered: clients that read neither headers nor mails.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { Type, type Static } from '@sinclair/typebox'
import fp from 'fastify-plugin'
import { measured } from '../measured.js'
import { checkOptions } from '../options.js'
import type { PlannedRoute } from '../plan/index.js'
import { PreparedHeaders, setPrepared } from '../prepared.js'
import { VersionGone, VersionsMisconfigured } from './errors.js'
import { compileVersion, PARAMETER, type CompiledVersion, type VersionRule } from './rule.js'
import { Uses, type DeprecatedUse } from './uses.js'

export { VersionGone, VersionsMisconfigured } from './errors.js'
export type { VersionRule } from './rule.js'
export type { DeprecatedUse } from './uses.js'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** That this route is deprecated, when it ends, and what comes after it. */
    version?: VersionRule & object
  }
  interface FastifyInstance {
    /** Who still uses what is deprecated. */
    versions: Versions
  }
}

/** The instance decorator `app.versions`. */
export interface Versions {
  /** Calls to deprecated routes that were not refused, by route and caller, since this process started. */
  uses: () => readonly DeprecatedUse[]
}

/** What posture and OpenAPI read. */
export interface VersionPromise {
  /** UTC, ISO 8601. */
  deprecated?: string
  sunset?: string
  successor?: string
  /** As it is when it is read. `ending`: its sunset is near. */
  readonly status: 'announced' | 'deprecated' | 'ending' | 'gone'
}

const Target = (description: string) => Type.Optional(Type.String({ pattern: '^(?:https?://|/(?!/))[!#-;=?-\\[\\]_a-z~]+$', description }))
export const VersionsOptions = Type.Object({
  deprecationPolicy: Target('URL of the page that tells how deprecation goes here: a `Link` with `rel="deprecation"`'),
  sunsetPolicy: Target('URL of the page that tells what a sunset means here: a `Link` with `rel="sunset"`'),
  nearDays: Type.Optional(Type.Integer({ minimum: 0, description: 'Days before a sunset in which posture has a finding for it', default: 30 })),
  callers: Type.Optional(Type.Integer({ minimum: 1, description: 'Callers of deprecated routes that are counted by name; those beyond are counted together', default: 10_000 })),
}, { additionalProperties: false })
export type VersionsOptions = Static<typeof VersionsOptions> & {
  /** Milliseconds since the epoch; for tests. */
  now?: () => number
}

const DAY_MS = 86_400_000
/** Who was refused has not used it. */
const REFUSED: ReadonlySet<number> = new Set([401, 403, 421, 429, 503])

async function versions (app: FastifyInstance, { now = Date.now, ...options }: VersionsOptions): Promise<void> {
  checkOptions(VersionsOptions, options, 'versions', VersionsMisconfigured)
  const { deprecationPolicy, sunsetPolicy, nearDays = 30, callers = 10_000 } = options
  const startedAt = now()
  const uses = new Uses(callers, app.events, now)
  const countUse = measured(app).counters('bastion_deprecated_requests_total', 'Calls to deprecated routes, and to those that are gone, by kind of caller')
  const compiled = new WeakMap<PlannedRoute, CompiledVersion>()

  app.decorate('versions', { uses: () => uses.list() })
  app.plan.contribute({
    concern: 'versions',
    stage: 'headers',
    compile (route) {
      const version = versionOf(route)
      return version === null ? undefined : { step: tellVersion(version), promise: promiseOf(version) }
    },
  })
  // After the limits have counted it, and whoever asks.
  app.plan.contribute({
    concern: 'versions',
    stage: 'authorize',
    compile (route) {
      const version = versionOf(route)
      return version === null || version.goneFrom === Infinity ? undefined : { step: refuseGone(version) }
    },
  })
  app.plan.contribute({
    concern: 'versions',
    stage: 'save',
    compile (route) {
      const version = versionOf(route)
      return version === null ? undefined : { step: keepLinks(version) }
    },
  })
  app.plan.contribute({
    concern: 'versions',
    stage: 'record',
    touches: ({ options }) => (options.config as { version?: unknown } | undefined)?.version !== undefined,
    compile (route) {
      const version = versionOf(route)
      return version === null ? undefined : { step: countUses(route.twinOf ?? route, version) }
    },
  })

  /** Null where a route says nothing of it. */
  function versionOf (route: PlannedRoute): CompiledVersion | null {
    const given = (route.options.config as { version?: unknown } | undefined)?.version
    if (given === undefined || route.kind === 'not-found') return null
    const version = compiled.get(route) ?? compileVersion(route, given, startedAt)
    compiled.set(route, version)
    return version
  }

  function tellVersion (version: CompiledVersion) {
    const { deprecated, sunset, successor } = version
    const fixed = {
      ...deprecated !== null && { deprecation: `@${Math.floor(deprecated / 1000)}` },
      ...sunset !== null && { sunset: new Date(sunset).toUTCString() },
    }
    const link = linksOf(version, null)
    const prepared = new PreparedHeaders({ ...fixed, ...link !== '' && { link } })
    const hasParameters = isTemplate(successor)
    return function tellItsVersion (request: FastifyRequest, reply: FastifyReply): void {
      setPrepared(reply, prepared)
      if (hasParameters) reply.header('link', linksOf(version, request))
    }
  }

  function refuseGone ({ goneFrom, successor }: CompiledVersion) {
    return function refuseWhatIsGone (request: FastifyRequest): void {
      if (now() >= goneFrom) throw new VersionGone(successor === null ? '' : `: use ${targetOf(successor, request)}`)
    }
  }

  /** What a handler links to (the next page) stands beside it, and not instead. */
  function keepLinks (version: CompiledVersion) {
    return function keepItsLinks (request: FastifyRequest, reply: FastifyReply): void {
      const own = linksOf(version, request)
      const links = [reply.getHeader('link') ?? []].flat().join(', ')
      if (own !== '' && !links.includes(own)) reply.header('link', links === '' ? own : `${links}, ${own}`)
    }
  }

  function countUses ({ method, url }: PlannedRoute, { deprecated, goneFrom, sunset, successor }: CompiledVersion) {
    return function countItsUse (request: FastifyRequest, reply: FastifyReply): void {
      const time = now()
      const isGone = time >= goneFrom
      if (REFUSED.has(reply.statusCode) || !(isGone || deprecated === null || time >= deprecated)) return
      const kind = (request as { principal?: { kind: string } | null }).principal?.kind ?? 'anonymous'
      countUse({ route: url, method, caller: kind, status: isGone ? 'gone' : 'deprecated' })
      uses.count(method, url, request, { gone: isGone, ...sunset !== null && { sunset: new Date(sunset).toISOString() }, ...successor !== null && { successor } })
    }
  }

  function linksOf ({ successor }: CompiledVersion, request: FastifyRequest | null): string {
    return [
      ...successor !== null ? [`<${request === null ? successor : targetOf(successor, request)}>; rel="successor-version"`] : [],
      ...deprecationPolicy !== undefined ? [`<${deprecationPolicy}>; rel="deprecation"; type="text/html"`] : [],
      ...sunsetPolicy !== undefined ? [`<${sunsetPolicy}>; rel="sunset"; type="text/html"`] : [],
    ].join(', ')
  }

  function promiseOf ({ deprecated, sunset, successor, goneFrom }: CompiledVersion): VersionPromise {
    return {
      ...deprecated !== null && { deprecated: new Date(deprecated).toISOString() },
      ...sunset !== null && { sunset: new Date(sunset).toISOString() },
      ...successor !== null && { successor },
      get status () {
        const time = now()
        if (time >= goneFrom) return 'gone'
        if (time >= goneFrom - nearDays * DAY_MS) return 'ending'
        return deprecated !== null && time >= deprecated ? 'deprecated' : 'announced'
      },
    }
  }
}

function isTemplate (successor: string | null): boolean {
  return successor?.startsWith('/') === true && successor.match(PARAMETER) !== null
}

/** The successor for this request: its parameters, encoded anew. */
function targetOf (successor: string, { params }: FastifyRequest): string {
  if (!isTemplate(successor)) return successor
  const target = successor.replace(PARAMETER, (_all, name: string) => encodeURIComponent((params as Record<string, string | undefined> | null)?.[name] ?? ''))
  // With a parameter that is empty its path would begin with the name of another host.
  return target.replace(/^\/{2,}/, '/')
}

export default fp(versions, { fastify: '5.x', name: 'bastion-versions', dependencies: ['bastion-plan', 'bastion-events'] })
