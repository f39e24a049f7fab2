/** The same suite with its shared state on the Redis of `BENCH_REDIS`, and more patience than by default: a machine that is busy with something else is not measured. */
import { buildWith } from './suite.js'

export const build = buildWith({ redis: process.env.BENCH_REDIS!, secret: 'the names of a benchmark are no secret', deadline: 2000 })
