/** What a reviewer should look at: in the service as a whole, and in each route; with what to do about it. */
import { Type, type Static } from '@sinclair/typebox'
import type { FastifyInstance } from 'fastify'
import { weaknessOf, type Peer } from '../peers.js'
import type { PlannedRoute } from '../plan/index.js'

export const Finding = Type.Object({
  rule: Type.String({ description: 'What kind of finding it is: the concern, and the fault' }),
  severity: Type.Union([Type.Literal('high'), Type.Literal('medium'), Type.Literal('low')]),
  route: Type.String({ description: 'Method and URL; `*` for the service as a whole' }),
  message: Type.String({ description: 'What is so' }),
  fix: Type.String({ description: 'What to do about it' }),
})
export type Finding = Static<typeof Finding>

const UNSAFE: ReadonlySet<string> = new Set(['POST', 'PUT', 'PATCH', 'DELETE'])
const LOOPBACK = /^http:\/\/(?:localhost|127\.0\.0\.1|\[::1\])(?::\d+)?$/
/** Without these something is open on every route. */
const NEEDED: Readonly<Record<string, [Finding['severity'], string]>> = {
  access: ['high', 'no route says who may call it'],
  limits: ['medium', 'nothing is limited'],
  headers: ['medium', 'sends no security headers'],
  validation: ['medium', 'bodies may hold what nobody declared'],
  exposure: ['medium', 'answers are not cut down to what is declared'],
}

export function serviceFindings ({ initialConfig, plan, certificates }: FastifyInstance & { certificates?: { findings: () => Pick<Finding, 'severity' | 'message' | 'fix'>[] } }): Finding[] {
  const { transport, state, cors, headers } = plan.notFound.controls as {
    transport?: { hosts: string[], peers?: Peer[] }, state?: { peer: Peer }, cors?: { origins: '*' | string[] } | false, headers?: Record<string, string> | false
  }
  const found: Finding[] = []
  const add = (rule: string, severity: Finding['severity'], message: string, fix: string) => found.push({ rule, severity, route: '*', message, fix })
  const promised = new Set([...plan.routes, plan.notFound].flatMap(({ controls }) => Object.keys(controls)))
  // Some concerns have nothing to say where there is no route.
  for (const [concern, [severity, message]] of Object.entries(plan.routes.some(({ kind }) => kind === 'route') ? NEEDED : {})) {
    if (!promised.has(concern)) add(`${concern}/absent`, severity, message, `Register the ${concern} concern.`)
  }
  if ((initialConfig as { requestTimeout?: number }).requestTimeout === 0) {
    add('server/time', 'medium', 'a request may take for ever, and malformed ones get bare answers', 'Construct the application with server().')
  }
  if (transport?.hosts.length === 0) add('transport/hosts', 'medium', 'answers to any host', 'List yours in transport.hosts.')
  for (const { severity, message, fix } of certificates?.findings() ?? []) add('certificates', severity, message, fix)
  for (const peer of [...transport?.peers ?? [], ...state === undefined ? [] : [state.peer]]) {
    const weakness = weaknessOf(peer)
    if (weakness !== null) add('transport/peer', 'high', weakness, 'Connect by TLS, and have the certificate verified.')
  }
  if (typeof headers === 'object' && headers['strict-transport-security'] === undefined) {
    add('headers/hsts', 'low', 'sends no Strict-Transport-Security (headers.hsts is off)', 'Take hsts: false out of headers once all of this host is served by HTTPS.')
  }
  const origins = typeof cors === 'object' ? cors.origins : []
  if (origins === '*') add('cors/any', 'low', 'any page may read its public answers (cors.origins is "*")', 'List the origins of your own pages in cors.origins.')
  else {
    for (const origin of origins) {
      if (origin.startsWith('http:') && !LOOPBACK.test(origin)) add('cors/plain', 'medium', `${origin} may read answers, and whoever sits on its line is that origin`, 'Serve that page by https, and list it so.')
    }
  }
  return found
}

export function routeFindings ({ method, url, kind, controls }: PlannedRoute): Finding[] {
  if (kind !== 'route') return []
  const { access, limits, headers, exposure, validation, csrf, reports, versions } = controls as {
    access?: unknown, limits?: unknown, headers?: unknown, exposure?: unknown, validation?: { params: boolean }, csrf?: unknown, reports?: unknown, versions?: { status: string, sunset: string }
  }
  const isPublic = access === 'public'
  const isUnsafe = method.split(',').some(name => UNSAFE.has(name))
  const found: Finding[] = []
  const add = (rule: string, severity: Finding['severity'], message: string, fix: string) => found.push({ rule, severity, route: `${method} ${url}`, message, fix })
  if (limits === false) {
    const fix = "Take limits: false out of its config, or say how often there: limits: ['10/minute']."
    if (isPublic && isUnsafe) add('limits/public', 'high', 'public, changes something, and has no limit', fix)
    else if (!isPublic) add('limits/none', 'low', 'has no limit', fix)
  }
  if (headers === false) add('headers/none', 'medium', 'sends no security headers', 'Take headers: false out of its config, and override those headers alone that it needs otherwise.')
  // What browsers report they send by themselves, and it changes nothing.
  if (csrf === false && isUnsafe && reports === undefined) {
    add('csrf/off', 'medium', 'other sites may make a browser send it, cookies included (csrf: false)', "Take csrf: false out of its config, or write csrf: 'origin' where there is no session yet.")
  }
  if (exposure === 'raw' && !isPublic) {
    add('exposure/raw', 'low', 'its answer is not filtered (answers: raw)', "Declare it in schema.response and take answers: 'raw' out. Where it is a page, a file or a stream, see that nothing is in it which its reader may not see.")
  }
  if (versions?.status === 'ending') add('versions/ending', 'medium', `answers 410 from ${versions.sunset} on`, 'See by app.versions.uses() who still calls it, and tell them of its successor.')
  if (validation?.params === false && /[:*]/.test(url) && method !== 'OPTIONS') add('validation/params', 'low', 'its URL has parameters without a schema', 'Describe them in schema.params.')
  return found
}
