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
import type { PlannedRoute } from '../plan/index.js'
import { isSchema } from '../references.js'
import { noBody } from '../../schemas/closed.js'
import { fieldsTaken, fieldsTold, type Taken, type Told } from './fields.js'
import { Finding, routeFindings, serviceFindings } from './findings.js'

export type { Finding } from './findings.js'

declare module 'fastify' {
  interface FastifyInstance {
    /** The report; complete after `ready()`. */
    posture: () => Posture
  }
}

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
function inputOf ({ kind, method, options, instance, controls }: PlannedRoute): Record<string, Taken> {
  if (kind !== 'route') return {}
  const { body, querystring, query = querystring, params, headers } = (options.schema ?? {}) as Record<string, unknown>
  const shared = instance.getSchemas()
  const content = isSchema(body) && isSchema(body.content) ? Object.values(body.content).map(part => (part as { schema?: unknown }).schema) : null
  // Where nobody asks for a schema, a body without one is whatever comes.
  const whole = body === noBody || (body === undefined && (controls.uploads !== undefined || !/POST|PUT|PATCH|DELETE/.test(method))) ? undefined : body ?? true
  const bodies = content === null ? whole : { anyOf: content }
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

export default fp(posture, { fastify: '5.x', name: 'bastion-posture', dependencies: ['bastion-plan'] })
