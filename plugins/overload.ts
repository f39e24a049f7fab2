/**
 * Overload: refuses early what the process cannot serve, so that what it has begun still ends.
 *
 * Threat: more work than the process can do. Each request is then slow, the queue grows until memory ends, and nobody is
 * served (CWE-400, CWE-770, OWASP API4:2023).
 * Defence: 503 with Retry-After while the event loop or memory is over its limit, as @fastify/under-pressure sampled it
 * last, and while as many handlers are at work as are allowed. The refusal costs one comparison, carries the security
 * headers and what CORS says, and comes before identification. Routes with `overload: false` are always answered.
 * Not covered: what a sample does not show. The delay of the event loop is the *mean* of one interval: a single long stall among
 * quick turns stays below the limit, a sustained one is seen an interval late, and while the loop stands still nothing is
 * refused. Where it turned fewer than twice in an interval there is no mean; the length of the interval is taken for it.
 */
import { getHeapStatistics } from 'node:v8'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { createError } from '@fastify/error'
import underPressure from '@fastify/under-pressure'
import { Type, type Static } from '@sinclair/typebox'
import fp from 'fastify-plugin'
import { checkOptions } from './options.js'
import type { PlannedRoute } from './plan/index.js'
import { REDUCED_CAPACITY, tellInProblem } from './problem.js'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** `false`: this route is answered under overload too, and its handlers are not counted (health checks, operators' routes, event streams). */
    overload?: false
  }
  interface FastifyInstance {
    /** How much this process carries, for operators and readiness. */
    overload: Overload
  }
  interface FastifyRequest {
    /** @internal True while its handler counts as one at work. */
    [atWork]: boolean
  }
}

/** The instance decorator `app.overload`. */
export interface Overload {
  /** True while requests are refused. */
  isUnderPressure: () => boolean
  /** What was sampled last; zeros before the first sample. */
  usage: () => Usage
}

export interface Usage {
  /** Milliseconds, mean of the last interval. */
  eventLoopDelay: number
  /** Share of the last interval in which the event loop was busy, 0–1. */
  eventLoopUtilization: number
  heapUsedBytes: number
  rssBytes: number
  /** Handlers at work now; null where they are not counted (`maxConcurrent` is off). */
  concurrent: number | null
}

/** An option of the overload concern is wrong. */
export const OverloadMisconfigured = createError<[string]>('FST_BASTION_OVERLOAD_MISCONFIGURED', '%s', 500, TypeError)
/** The process carries as much as it can; Retry-After says when to come back (RFC 9110, 15.6.4). */
export const OverloadRefused = createError('FST_BASTION_OVERLOAD_REFUSED', 'The service is under heavy load', 503)

const Off = Type.Literal(false)
export const OverloadOptions = Type.Object({
  maxEventLoopDelay: Type.Optional(Type.Union([Type.Integer({ minimum: 1 }), Off], {
    description: 'Milliseconds by which a turn of the event loop may be late, as the mean of a sample interval', default: 1000,
  })),
  maxHeapUsedBytes: Type.Optional(Type.Union([Type.Integer({ minimum: 1 }), Off], {
    description: "Bytes of the JavaScript heap in use; by default nine tenths of V8's own limit",
  })),
  maxRssBytes: Type.Optional(Type.Union([Type.Integer({ minimum: 1 }), Off], { description: 'Bytes of memory of the whole process', default: false })),
  maxEventLoopUtilization: Type.Optional(Type.Union([Type.Number({ exclusiveMinimum: 0, exclusiveMaximum: 1 }), Off], {
    description: 'Share of a sample interval in which the event loop may be busy, 0–1', default: false,
  })),
  maxConcurrent: Type.Optional(Type.Union([Type.Integer({ minimum: 1 }), Off], {
    description: 'Handlers at work at once: from when the request is read and allowed until its answer is ready to be sent', default: false,
  })),
  sampleInterval: Type.Optional(Type.Integer({ minimum: 100, description: 'Milliseconds between two samples', default: 1000 })),
  retryAfter: Type.Optional(Type.Integer({ minimum: 1, description: 'Seconds after which a refused client should come back', default: 10 })),
}, { additionalProperties: false })
export type OverloadOptions = Static<typeof OverloadOptions>

type Limit = 'maxEventLoopDelay' | 'maxHeapUsedBytes' | 'maxRssBytes' | 'maxEventLoopUtilization' | 'maxConcurrent'
/** A limit that is exceeded, and the number that exceeds it. */
interface Excess { exceeded: Limit, limit: number, measured: number }

const { heap_size_limit: HEAP_LIMIT } = getHeapStatistics()
/** Milliseconds that a handler still counts when its client is gone and it never answers. */
const ABANDONED_MS = 30_000

const atWork = Symbol('bastion.overload.at-work')

async function overload (app: FastifyInstance, options: OverloadOptions): Promise<void> {
  checkOptions(OverloadOptions, options, 'overload', OverloadMisconfigured)
  const limits = limitsOf(options)
  const { maxConcurrent } = limits
  const { sampleInterval = 1000, retryAfter = 10 } = options
  // One for all: the stack of each would cost more than many a request that is served.
  const refusal = tellInProblem(Object.assign(new OverloadRefused(), { expose: true, headers: { 'retry-after': String(retryAfter) } }), { type: REDUCED_CAPACITY })

  let sampled = { eventLoopDelay: 0, heapUsed: 0, rssBytes: 0, eventLoopUtilized: 0 }
  /** Decided once a sample, read by every request. */
  let excess: Excess | null = null
  let concurrent = 0
  let phase: { since: number, refused: number } | null = null
  /** Since the last sample somebody was refused because all places were taken. */
  let wasFull = false

  app.decorate('overload', { isUnderPressure: () => excess !== null || concurrent >= maxConcurrent, usage })
  if (maxConcurrent < Infinity) app.decorateRequest(atWork as never, false as never)
  // Without limits @fastify/under-pressure only samples; in a context of its own its decorators meet nobody else's.
  await app.register(async function sampling (instance) {
    await instance.register(underPressure, { sampleInterval, eventLoopUtilizationMode: 'interval' })
    let sampledAt = performance.now()
    /** The loop stands still while a service boots or fills its caches before it listens: that is no load, and the first sample afterwards still shows it. */
    let showsBoot = true
    let isReady = false
    const timer = setTimeout(() => {
      const sample = instance.memoryUsage()
      const now = performance.now()
      const eventLoopDelay = Number.isFinite(sample.eventLoopDelay) ? sample.eventLoopDelay : now - sampledAt
      sampled = showsBoot ? { ...sample, eventLoopDelay: 0, eventLoopUtilized: 0 } : { ...sample, eventLoopDelay }
      showsBoot &&= !isReady
      sampledAt = now
      timer.refresh()
      judge()
    }, sampleInterval).unref()
    instance.addHook('onReady', async () => { isReady = true })
    instance.addHook('onListen', async () => {
      showsBoot = true
      sampled = { ...sampled, eventLoopDelay: 0, eventLoopUtilized: 0 }
      judge()
    })
    instance.addHook('onClose', async () => clearTimeout(timer))
  })

  app.plan.contribute({
    concern: 'overload',
    stage: 'overload',
    compile (route) {
      const { overload: rule } = (route.options.config ?? {}) as { overload?: unknown }
      if (rule !== undefined && rule !== false) route.object('overload: a route can only be exempt (overload: false); limits are options of the suite')
      return rule === false ? { promise: false } : { step: refuseUnderPressure, promise: { ...promiseOf(limits), retryAfter } }
    },
  })
  if (maxConcurrent < Infinity) {
    app.plan.contribute({ concern: 'overload', stage: 'admit', compile: route => isExempt(route) ? undefined : { step: takePlace } })
    app.plan.contribute({ concern: 'overload', stage: 'expose', compile: route => isExempt(route) ? undefined : { step: givePlaceBack } })
  }

  function refuseUnderPressure (): void {
    if (excess !== null) refuse()
    if (concurrent >= maxConcurrent) refuseForPlace()
  }

  /** Taken where the body is read: whoever sends his slowly holds no place. */
  function takePlace (request: FastifyRequest, reply: FastifyReply): void {
    if (request[atWork]) return
    if (concurrent >= maxConcurrent) refuseForPlace()
    concurrent += 1
    request[atWork] = true
    if (reply.raw.destroyed) abandon(request, reply) // its client hung up before it came here
    else reply.raw.once('close', () => { abandon(request, reply) })
  }

  function abandon (request: FastifyRequest, reply: FastifyReply): void {
    if (!request[atWork]) return
    if (reply.sent || reply.raw.headersSent) givePlaceBack(request)
    // Its client is gone and it works on: otherwise whoever hangs up at once has as many at work as he likes (CVE-2023-44487).
    else setTimeout(givePlaceBack, ABANDONED_MS, request).unref()
  }

  function givePlaceBack (request: FastifyRequest): void {
    if (!request[atWork]) return
    request[atWork] = false
    concurrent -= 1
  }

  function refuseForPlace (): never {
    wasFull = true
    if (phase === null) begin({ exceeded: 'maxConcurrent', limit: maxConcurrent, measured: concurrent })
    return refuse()
  }

  function refuse (): never {
    if (phase !== null) phase.refused += 1
    throw refusal
  }

  function judge (): void {
    excess = excessOf(usage(), limits)
    if (excess !== null && phase === null) begin(excess)
    else if (excess === null && !wasFull && phase !== null) end(phase)
    wasFull = false
  }

  /** Once a phase, never once a request. */
  function begin (reason: Excess): void {
    phase = { since: performance.now(), refused: 0 }
    app.events.record('overload_started', null, { ...reason, ...usage(), severity: 'critical' })
  }

  function end ({ since, refused }: NonNullable<typeof phase>): void {
    phase = null
    app.events.record('overload_ended', null, { ...usage(), refused, ms: Math.round(performance.now() - since) })
  }

  function usage (): Usage {
    const { eventLoopDelay, eventLoopUtilized, heapUsed, rssBytes } = sampled
    return {
      eventLoopDelay,
      eventLoopUtilization: eventLoopUtilized,
      heapUsedBytes: heapUsed,
      rssBytes,
      concurrent: maxConcurrent < Infinity ? concurrent : null,
    }
  }
}

/** Infinity where a limit is off. */
function limitsOf (options: OverloadOptions): Record<Limit, number> {
  const { maxEventLoopDelay = 1000, maxHeapUsedBytes = Math.floor(HEAP_LIMIT * 0.9), maxRssBytes, maxEventLoopUtilization, maxConcurrent } = options
  if (maxHeapUsedBytes !== false && maxHeapUsedBytes > HEAP_LIMIT) {
    throw new OverloadMisconfigured(`overload: maxHeapUsedBytes: V8 ends the process at ${HEAP_LIMIT} bytes, before this limit is reached`)
  }
  const limits = {
    maxEventLoopDelay: maxEventLoopDelay || Infinity,
    maxHeapUsedBytes: maxHeapUsedBytes || Infinity,
    maxRssBytes: maxRssBytes || Infinity,
    maxEventLoopUtilization: maxEventLoopUtilization || Infinity,
    maxConcurrent: maxConcurrent || Infinity,
  }
  if (Object.values(limits).every(limit => limit === Infinity)) throw new OverloadMisconfigured('overload: every limit is off: leave the concern out (overload: false)')
  return limits
}

function promiseOf (limits: Record<Limit, number>): Partial<Record<Limit, number>> {
  return Object.fromEntries(Object.entries(limits).filter(([, limit]) => limit < Infinity))
}

/** The first limit that what was sampled exceeds. */
function excessOf (usage: Usage, limits: Record<Limit, number>): Excess | null {
  const { eventLoopDelay, heapUsedBytes, rssBytes, eventLoopUtilization } = usage
  const { maxEventLoopDelay, maxHeapUsedBytes, maxRssBytes, maxEventLoopUtilization } = limits
  if (eventLoopDelay > maxEventLoopDelay) return { exceeded: 'maxEventLoopDelay', limit: maxEventLoopDelay, measured: eventLoopDelay }
  if (heapUsedBytes > maxHeapUsedBytes) return { exceeded: 'maxHeapUsedBytes', limit: maxHeapUsedBytes, measured: heapUsedBytes }
  if (rssBytes > maxRssBytes) return { exceeded: 'maxRssBytes', limit: maxRssBytes, measured: rssBytes }
  if (eventLoopUtilization > maxEventLoopUtilization) {
    return { exceeded: 'maxEventLoopUtilization', limit: maxEventLoopUtilization, measured: eventLoopUtilization }
  }
  return null
}

function isExempt ({ options }: PlannedRoute): boolean {
  return (options.config as { overload?: false } | undefined)?.overload === false
}

export default fp(overload, { fastify: '5.x', name: 'bastion-overload', dependencies: ['bastion-plan', 'bastion-events'] })
