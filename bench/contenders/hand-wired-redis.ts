/** The hand-wired plugins with @fastify/rate-limit on the Redis of `BENCH_REDIS`, by a client as its example makes it. */
import { Redis } from 'ioredis'
import { buildWith } from './hand-wired.js'

export const build = buildWith(undefined, new Redis(process.env.BENCH_REDIS!, { connectTimeout: 500, maxRetriesPerRequest: 1 }))
