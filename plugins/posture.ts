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
import type { PlannedRoute } from './plan.js'

declare module 'fastify' {
  interface FastifyInstance {
    /** The report; complete after `ready()`. */
    posture: () => Posture
  }
}

const Finding = Type.Object({
  severity: Type.Union([Type.Literal('high'), Type.Literal('medium'), Type.Literal('low')]),
  route: Type.String(),
  message: Type.String(),
})
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

async function posture (app: FastifyInstance): Promise<void> {
  app.decorate('posture', () => {
    const planned = [...app.plan.routes, app.plan.notFound]
    const routes = planned.map(({ method, url, kind, order, controls }) => ({ method, url, kind, order: [...order], controls: { ...controls } }))
    return { concerns: [...new Set(planned.flatMap(({ controls }) => Object.keys(controls)))].sort(), routes, findings: planned.flatMap(findingsOf) }
  })
}

function findingsOf ({ method, url, kind, controls }: PlannedRoute): Static<typeof Finding>[] {
  const route = `${method} ${url}`
  const isUnsafe = /POST|PUT|PATCH|DELETE/.test(method)
  const isPublic = controls.access === 'public'
  const found: Static<typeof Finding>[] = []
  if (kind === 'not-found') return found
  if (isPublic && controls.limits === false && isUnsafe) found.push({ severity: 'high', route, message: 'public, changes something, and has no limit' })
  if (controls.headers === false) found.push({ severity: 'medium', route, message: 'sends no security headers' })
  if (controls.exposure === 'raw' && !isPublic) found.push({ severity: 'low', route, message: 'its answer is not filtered (answers: raw)' })
  if (controls.limits === false && !isPublic) found.push({ severity: 'low', route, message: 'has no limit' })
  return found
}

export default fp(posture, { fastify: '5.x', name: 'bastion-posture', dependencies: ['bastion-plan'] })
