/** What concerns measure of themselves, for whoever collects it: nobody, where `metrics` is not registered before them. */
import type { FastifyInstance } from 'fastify'

export interface Measures {
  /**
   * A number that is read when somebody asks for it; null: none right now.
   * @param name as Prometheus wants it: snake case, with the unit at its end (`bastion_audit_lag_seconds`)
   */
  gauge: (name: string, help: string, read: () => number | null) => void
  /** A counter, and the function that adds to it. Its name ends with `_total`. */
  counter: (name: string, help: string) => (by?: number) => void
  /** Counters that labels tell apart, and the function that adds to one of them. Labels are of what was declared, never of what clients send. */
  counters: (name: string, help: string) => (labels: Readonly<Record<string, string>>) => void
  /** A histogram, and the function that observes a duration in seconds. */
  histogram: (name: string, help: string, buckets?: readonly number[]) => (seconds: number) => void
}

const nothing = () => {}
const NOBODY: Measures = { gauge: nothing, counter: () => nothing, counters: () => nothing, histogram: () => nothing }

export function measured (app: FastifyInstance): Measures {
  return app.hasDecorator('metrics') ? (app as FastifyInstance & { metrics: Measures }).metrics : NOBODY
}
