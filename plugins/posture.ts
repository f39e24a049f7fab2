/**
 * Posture: what protects each route, read from the running application.
 *
 * Threat: documentation that says one thing while the wire does another.
 * Defence: the report is the compiled plan itself, with findings for what a reviewer should look at.
 * Not covered: whether a policy is the right one.
 */
import type { FastifyInstance } from 'fastify'
import { Type, type Static } from '@sinclair/typebox'
import fp from 'fastify-plugin'
import { weaknessOf, type Peer } from './peers.js'
import type { PlannedRoute } from './plan/index.js'

declare module 'fastify' {
  interface FastifyInstance {
    /** The report; complete after `ready()`. */
    posture: () => Posture
  }
}

const Finding = Type.Object({
  severity: Type.Union([Type.Literal('high'), Type.Literal('medium'), Type.Literal('low')]),
  route: Type.String({ description: 'Method and URL; `*` for the service as a whole' }),
  message: Type.String({ description: 'What is so' }),
  fix: Type.String({ description: 'What to do about it' }),
})
type Finding = Static<typeof Finding>
export const Posture = Type.Object({
  concerns: Type.Array(Type.String(), { description: 'Concerns that guard at least one route' }),
  routes: Type.Array(Type.Object({
    method: Type.String(),
    url: Type.String(),
    kind: Type.String(),
    order: Type.Array(Type.String(), { description: 'The steps, as they run' }),
    controls: Type.Record(Type.String(), Type.Unknown({ open: 'each concern describes itself in its own words; nothing of a request is among them' })),
  })),
  findings: Type.Array(Finding),
})
export type Posture = Static<typeof Posture>

const UNSAFE: ReadonlySet<string> = new Set(['POST', 'PUT', 'PATCH', 'DELETE'])
const LOOPBACK = /^http:\/\/(?:localhost|127\.0\.0\.1|\[::1\])(?::\d+)?$/

async function posture (app: FastifyInstance): Promise<void> {
  app.decorate('posture', () => {
    const planned = [...app.plan.routes, app.plan.notFound]
    return {
      concerns: [...new Set(planned.flatMap(({ controls }) => Object.keys(controls)))].sort(),
      // A copy: who reads the report cannot change what it was read from.
      routes: planned.map(({ method, url, kind, order, controls }) => structuredClone({ method, url, kind, order, controls })) as Posture['routes'],
      findings: [...serviceFindings(app), ...app.plan.routes.flatMap(routeFindings)],
    }
  })
}

/** What a reviewer should look at in the service as a whole. */
function serviceFindings ({ initialConfig, plan, certificates }: FastifyInstance & { certificates?: { findings: () => Omit<Finding, 'route'>[] } }): Finding[] {
  const { transport, state, cors, headers } = plan.notFound.controls as {
    transport?: { hosts: string[], peers?: Peer[] }, state?: { peer: Peer }, cors?: { origins: '*' | string[] } | false, headers?: Record<string, string> | false
  }
  const found: Finding[] = []
  const add = (severity: Finding['severity'], message: string, fix: string) => found.push({ severity, route: '*', message, fix })
  if ((initialConfig as { requestTimeout?: number }).requestTimeout === 0) {
    add('medium', 'a request may take for ever, and malformed ones get bare answers', 'Construct the application with server().')
  }
  if (transport?.hosts.length === 0) add('medium', 'answers to any host', 'List yours in transport.hosts.')
  for (const { severity, message, fix } of certificates?.findings() ?? []) add(severity, message, fix)
  for (const peer of [...transport?.peers ?? [], ...state === undefined ? [] : [state.peer]]) {
    const weakness = weaknessOf(peer)
    if (weakness !== null) add('high', weakness, 'Connect by TLS, and have the certificate verified.')
  }
  if (typeof headers === 'object' && headers['strict-transport-security'] === undefined) {
    add('low', 'sends no Strict-Transport-Security (headers.hsts is off)', 'Take hsts: false out of headers once all of this host is served by HTTPS.')
  }
  const origins = typeof cors === 'object' ? cors.origins : []
  if (origins === '*') add('low', 'any page may read its public answers (cors.origins is "*")', 'List the origins of your own pages in cors.origins.')
  else {
    for (const origin of origins) {
      if (origin.startsWith('http:') && !LOOPBACK.test(origin)) add('medium', `${origin} may read answers, and whoever sits on its line is that origin`, 'Serve that page by https, and list it so.')
    }
  }
  return found
}

function routeFindings ({ method, url, kind, controls }: PlannedRoute): Finding[] {
  if (kind !== 'route') return []
  const { access, limits, headers, exposure, validation, csrf, reports, versions } = controls as {
    access?: unknown, limits?: unknown, headers?: unknown, exposure?: unknown, validation?: { params: boolean }, csrf?: unknown, reports?: unknown, versions?: { status: string, sunset: string }
  }
  const isPublic = access === 'public'
  const isUnsafe = method.split(',').some(name => UNSAFE.has(name))
  const found: Finding[] = []
  const add = (severity: Finding['severity'], message: string, fix: string) => found.push({ severity, route: `${method} ${url}`, message, fix })
  if (limits === false) {
    const fix = "Take limits: false out of its config, or say how often there: limits: ['10/minute']."
    if (isPublic && isUnsafe) add('high', 'public, changes something, and has no limit', fix)
    else if (!isPublic) add('low', 'has no limit', fix)
  }
  if (headers === false) add('medium', 'sends no security headers', 'Take headers: false out of its config, and override those headers alone that it needs otherwise.')
  // What browsers report they send by themselves, and it changes nothing.
  if (csrf === false && isUnsafe && reports === undefined) {
    add('medium', 'other sites may make a browser send it, cookies included (csrf: false)', "Take csrf: false out of its config, or write csrf: 'origin' where there is no session yet.")
  }
  if (exposure === 'raw' && !isPublic) {
    add('low', 'its answer is not filtered (answers: raw)', "Declare it in schema.response and take answers: 'raw' out. Where it is a page, a file or a stream, see that nothing is in it which its reader may not see.")
  }
  if (versions?.status === 'ending') add('medium', `answers 410 from ${versions.sunset} on`, 'See by app.versions.uses() who still calls it, and tell them of its successor.')
  if (validation?.params === false && /[:*]/.test(url) && method !== 'OPTIONS') add('low', 'its URL has parameters without a schema', 'Describe them in schema.params.')
  return found
}

export default fp(posture, { fastify: '5.x', name: 'bastion-posture', dependencies: ['bastion-plan'] })
