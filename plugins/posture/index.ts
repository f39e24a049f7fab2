/**
 * Posture: what protects each route, read from the running application.
 *
 * Threat: documentation that says one thing while the wire does another.
 * Defence: the report is the compiled plan itself, with findings for what a reviewer should look at. `npx fastify-bastion posture`
 * grades it, and refuses a change that makes a route weaker than it was.
 * Not covered: whether a policy is the right one.
 */
import type { FastifyInstance } from 'fastify'
import { Type, type Static } from '@sinclair/typebox'
import fp from 'fastify-plugin'
import type { Principal } from '../identity.js'
import { weaknessOf, type Peer } from '../peers.js'
import type { PlannedRoute } from '../plan/index.js'
import { isSchema } from '../references.js'
import { noBody } from '../../schemas/closed.js'
import { fieldsTaken, fieldsTold, type Taken, type Told } from './fields.js'

declare module 'fastify' {
  interface FastifyInstance {
    /** The report; complete after `ready()`. */
    posture: () => Posture
  }
}

const Finding = Type.Object({
  rule: Type.String({ description: 'What kind of finding it is: the concern, and the fault' }),
  severity: Type.Union([Type.Literal('high'), Type.Literal('medium'), Type.Literal('low')]),
  route: Type.String({ description: 'Method and URL; `*` for the service as a whole' }),
  message: Type.String(),
})
export type Finding = Static<typeof Finding>
const Taken = Type.Record(Type.String(), Type.Array(Type.Unknown({ open: 'keywords of the schema that the service itself declares' })))
export const Posture = Type.Object({
  concerns: Type.Array(Type.String(), { description: 'Concerns that guard at least one route' }),
  routes: Type.Array(Type.Object({
    method: Type.String(),
    url: Type.String(),
    kind: Type.String(),
    order: Type.Array(Type.String(), { description: 'The steps, as they run' }),
    controls: Type.Record(Type.String(), Type.Unknown({ open: 'each concern describes itself in its own words; nothing of a request is among them' })),
    input: Type.Object({ body: Type.Optional(Taken), query: Type.Optional(Taken), params: Type.Optional(Taken), headers: Type.Optional(Taken) }, {
      description: 'Fields that it takes, by path, and what they are held to',
    }),
    output: Type.Record(Type.String(), Type.Record(Type.String(), Type.Array(Type.String())), {
      description: 'Fields that it answers with, by status and path, and who sees them: a permission or `owner`, one of which is enough; none: whoever may call it',
    }),
  })),
  roles: Type.Record(Type.String(), Type.Object({ permissions: Type.Array(Type.String()), passesFor: Type.Array(Type.String()) }), {
    description: 'What each role may do, what it inherits included, and the other roles for which it passes',
  }),
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
      routes: planned.map(route => {
        const { method, url, kind, order, controls } = route
        return structuredClone({ method, url, kind, order, controls, input: inputOf(route), output: outputOf(route) })
      }) as Posture['routes'],
      roles: app.hasDecorator('access') ? Object.fromEntries(app.access.roles.map(role => [role, rightsOf(app, role)])) : {},
      findings: [...serviceFindings(app), ...app.plan.routes.flatMap(routeFindings)],
    }
  })
}

function rightsOf ({ access }: FastifyInstance, role: string): { permissions: string[], passesFor: string[] } {
  const holder = { roles: [role] } as unknown as Principal
  return { permissions: [...access.permissionsOf([role])].sort(), passesFor: access.roles.filter(other => other !== role && access.hasRole(holder, other as never)).sort() }
}

/** Of a HEAD its GET says it. */
function inputOf ({ kind, options, instance }: PlannedRoute): Record<string, Taken> {
  if (kind !== 'route') return {}
  const { body, querystring, query = querystring, params, headers } = (options.schema ?? {}) as Record<string, unknown>
  const shared = instance.getSchemas()
  const content = isSchema(body) && isSchema(body.content) ? Object.values(body.content).map(part => (part as { schema?: unknown }).schema) : null
  const bodies = content === null ? body === noBody ? undefined : body : { anyOf: content }
  return Object.fromEntries(Object.entries({ body: bodies, query, params, headers }).flatMap(([place, schema]) => schema === undefined ? [] : [[place, fieldsTaken(schema, shared)]]))
}

function outputOf ({ kind, options, instance }: PlannedRoute): Record<string, Told> {
  if (kind !== 'route') return {}
  const { response = {} } = (options.schema ?? {}) as { response?: Record<string, unknown> }
  const shared = instance.getSchemas()
  return Object.fromEntries(Object.entries(response).map(([status, schema]) => {
    const content = isSchema(schema) && isSchema(schema.content) ? { anyOf: Object.values(schema.content).map(part => (part as { schema?: unknown }).schema) } : schema
    return [status, fieldsTold(content, shared)]
  }))
}

/** Without these something is open on every route. */
const NEEDED: Readonly<Record<string, [Finding['severity'], string]>> = {
  access: ['high', 'no route says who may call it: register the access concern'],
  limits: ['medium', 'nothing is limited: register the limits concern'],
  headers: ['medium', 'sends no security headers: register the headers concern'],
  validation: ['medium', 'bodies may hold what nobody declared: register the validation concern'],
  exposure: ['medium', 'answers are not cut down to what is declared: register the exposure concern'],
}

/** What a reviewer should look at in the service as a whole. */
function serviceFindings ({ initialConfig, plan, certificates }: FastifyInstance & { certificates?: { findings: () => Pick<Finding, 'severity' | 'message'>[] } }): Finding[] {
  const { transport, state, cors, headers } = plan.notFound.controls as {
    transport?: { hosts: string[], peers?: Peer[] }, state?: { peer: Peer }, cors?: { origins: '*' | string[] } | false, headers?: Record<string, string> | false
  }
  const found: Finding[] = []
  const add = (rule: string, severity: Finding['severity'], message: string) => found.push({ rule, severity, route: '*', message })
  const promised = new Set([...plan.routes, plan.notFound].flatMap(({ controls }) => Object.keys(controls)))
  // Some concerns have nothing to say where there is no route.
  for (const [concern, [severity, message]] of Object.entries(plan.routes.some(({ kind }) => kind === 'route') ? NEEDED : {})) if (!promised.has(concern)) add(`${concern}/absent`, severity, message)
  if ((initialConfig as { requestTimeout?: number }).requestTimeout === 0) add('server/time', 'medium', 'a request may take for ever, and malformed ones get bare answers: construct the application with server()')
  if (transport?.hosts.length === 0) add('transport/hosts', 'medium', 'answers to any host: list yours in transport.hosts')
  for (const { severity, message } of certificates?.findings() ?? []) add('certificates', severity, message)
  for (const peer of [...transport?.peers ?? [], ...state === undefined ? [] : [state.peer]]) {
    const weakness = weaknessOf(peer)
    if (weakness !== null) add('transport/peer', 'high', weakness)
  }
  if (typeof headers === 'object' && headers['strict-transport-security'] === undefined) add('headers/hsts', 'low', 'sends no Strict-Transport-Security (headers.hsts is off)')
  const origins = typeof cors === 'object' ? cors.origins : []
  if (origins === '*') add('cors/any', 'low', 'any page may read its public answers (cors.origins is "*")')
  else {
    for (const origin of origins) if (origin.startsWith('http:') && !LOOPBACK.test(origin)) add('cors/plain', 'medium', `${origin} may read answers, and whoever sits on its line is that origin: use https`)
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
  const add = (rule: string, severity: Finding['severity'], message: string) => found.push({ rule, severity, route: `${method} ${url}`, message })
  if (limits === false) {
    if (isPublic && isUnsafe) add('limits/public', 'high', 'public, changes something, and has no limit')
    else if (!isPublic) add('limits/none', 'low', 'has no limit')
  }
  if (headers === false) add('headers/none', 'medium', 'sends no security headers')
  // What browsers report they send by themselves, and it changes nothing.
  if (csrf === false && isUnsafe && reports === undefined) add('csrf/off', 'medium', 'other sites may make a browser send it, cookies included (csrf: false)')
  if (exposure === 'raw' && !isPublic) add('exposure/raw', 'low', 'its answer is not filtered (answers: raw)')
  if (versions?.status === 'ending') add('versions/ending', 'medium', `answers 410 from ${versions.sunset} on: app.versions.uses() tells who still calls it`)
  if (validation?.params === false && /[:*]/.test(url) && method !== 'OPTIONS') add('validation/params', 'low', 'its URL has parameters without a schema')
  return found
}

export default fp(posture, { fastify: '5.x', name: 'bastion-posture', dependencies: ['bastion-plan'] })
