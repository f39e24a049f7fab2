/**
 * Metrics: what the suite decides and how long it takes, in Prometheus' text.
 *
 * Threat: an attack, or a service that is near its end, which shows in no graph (OWASP A09:2021); and metrics that are an attack themselves: a label of what clients
 * send makes as many series as they like (CWE-770), and tells whoever reads them who they are.
 * Defence: counters and histograms by route pattern, concern and code; never by id, address or URL; bounded all the same. Counting is an addition, samples are made
 * when somebody asks.
 * Not covered: who may read them. Guard the route: the numbers tell how much a service can take. Requests whose client hung up before the answer: Fastify tells of
 * no response there.
 */
import type { FastifyInstance } from 'fastify'
import { createError } from '@fastify/error'
import { Type, type Static } from '@sinclair/typebox'
import fp from 'fastify-plugin'
import { collectDefaultMetrics, Registry, type Metric } from 'prom-client'
import { problemOf } from '../errors.js'
import type { Measures } from '../measured.js'
import { checkOptions } from '../options.js'
import { concernOf, outcomeOf } from './decisions.js'
import { Distribution, Level, Tally, type Durations } from './instruments.js'

export type { Measures } from '../measured.js'

declare module 'fastify' {
  interface FastifyInstance {
    /** What the suite, and the service, count and measure. */
    metrics: Metrics
  }
}

/** The instance decorator `app.metrics`. */
export interface Metrics extends Measures {
  /** prom-client's: a service registers its own metrics with `registers: [app.metrics.registry]`. */
  readonly registry: Registry
  /** Of {@link text}. */
  readonly contentType: string
  /** All of it, as Prometheus reads it. */
  text: () => Promise<string>
}

/** An option of the metrics concern is wrong, or a metric has no good name. */
export const MetricsMisconfigured = createError<[string]>('FST_BASTION_METRICS_MISCONFIGURED', '%s', 500, TypeError)

export const MetricsOptions = Type.Object({
  node: Type.Optional(Type.Boolean({ description: "Node's own numbers too: processor, memory, event loop, garbage collection", default: false })),
  buckets: Type.Optional(Type.Array(Type.Number({ exclusiveMinimum: 0 }), {
    minItems: 1, maxItems: 30, description: 'Upper bounds of the buckets of request durations, in seconds', default: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
  })),
}, { additionalProperties: false })
export type MetricsOptions = Static<typeof MetricsOptions>

const DURATIONS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]
/** Codes of a service's own errors that get a label; there should be few. */
const MAX_CODES = 500
const NAME = /^[a-z][a-z0-9_]{2,99}$/

async function metrics (app: FastifyInstance, options: MetricsOptions): Promise<void> {
  checkOptions(MetricsOptions, options, 'metrics', MetricsMisconfigured)
  const { node = false, buckets = DURATIONS } = options
  const registry = new Registry()
  const add = <Instrument extends Tally | Level | Distribution>(instrument: Instrument): Instrument => {
    if (!NAME.test(instrument.name)) throw new MetricsMisconfigured(`metrics: ${instrument.name}: is no name of a metric`)
    if (registry.getSingleMetric(instrument.name) !== undefined) throw new MetricsMisconfigured(`metrics: ${instrument.name}: is there already`)
    registry.registerMetric(instrument as unknown as Metric)
    return instrument
  }
  const decisions = add(new Tally('bastion_decisions_total', 'Requests that were let through, and those that were refused, by whom and why', MAX_CODES))
  const durations = add(new Distribution('bastion_request_duration_seconds', 'Requests by route, method and class of status', ascending(buckets)))
  const events = add(new Tally('bastion_events_total', 'Security events by type'))
  let isStateAway = false
  add(new Level('bastion_state_away', '1 while the shared state does not answer', () => Number(isStateAway)))
  if (node) {
    collectDefaultMetrics({ register: registry })
    registry.removeSingleMetric('nodejs_version_info') // tells whom to attack by what (ASVS 13.4.6)
  }

  app.decorate('metrics', {
    registry,
    contentType: registry.contentType,
    text: () => registry.metrics(),
    gauge (name, help, read) { add(new Level(name, help, () => readSafely(name, read))) },
    counter (name, help) {
      const place = add(new Tally(name, help)).of({})
      return (by = 1) => { place.value += by }
    },
    counters (name, help) {
      const tally = add(new Tally(name, help))
      return labels => { tally.of(labels).value += 1 }
    },
    histogram (name, help, bounds = DURATIONS) {
      const place = add(new Distribution(name, help, ascending(bounds))).of({})
      return seconds => { place.observe(seconds) }
    },
  } satisfies Metrics)

  /** One number that cannot be read takes none of the others with it. */
  function readSafely (name: string, read: () => number | null): number | null {
    try {
      return read()
    } catch (error) {
      app.log.error({ err: error, metric: name }, 'a gauge cannot be read')
      return null
    }
  }

  app.events.listen(function countEvent ({ type }) {
    events.of({ type }).value += 1
    if (type === 'state_away') isStateAway = true
    else if (type === 'state_back') isStateAway = false
  })

  const allowed = decisions.of({ concern: 'all', outcome: 'allowed', code: '' })
  const refusals = new Map<string, { value: number }>()

  function refusalsOf (problem: { status: number, code: string }): { value: number } {
    const { code } = problem
    const outcome = outcomeOf(problem)
    // One code may be answered with several statuses.
    const name = `${outcome} ${code}`
    const known = refusals.get(name)
    if (known !== undefined) return known
    const place = decisions.of({ concern: concernOf(code), outcome, code })
    if (refusals.size < MAX_CODES) refusals.set(name, place)
    return place
  }

  app.plan.contribute({
    concern: 'metrics',
    stage: 'record',
    compile ({ kind, method, url }) {
      const labels = { route: url, method: kind === 'not-found' ? '*' : method }
      const byClass: (Durations | undefined)[] = []
      return {
        step (_request, reply) {
          const family = Math.floor(reply.statusCode / 100)
          const place = byClass[family] ??= durations.of({ ...labels, status: `${family}xx` })
          place.observe(reply.elapsedTime / 1000)
          const problem = problemOf(reply)
          if (problem === null) allowed.value += 1
          else refusalsOf(problem).value += 1
        },
      }
    },
  })
}

/** @throws MetricsMisconfigured */
function ascending (buckets: readonly number[]): readonly number[] {
  if (buckets.every((bound, i) => bound > (buckets[i - 1] ?? 0))) return buckets
  throw new MetricsMisconfigured('metrics: buckets: must rise')
}

export default fp(metrics, { fastify: '5.x', name: 'bastion-metrics', dependencies: ['bastion-plan', 'bastion-events', 'bastion-errors'] })
