/** Connects to Redis the way shared state wants it: nothing waits in a queue, nothing is sent twice, it comes back soon. */
import type { RedisClient } from './line.js'

/** One server by URL; one server or Sentinel by ioredis' options; a cluster by its nodes; or a client of your own, which you close. */
export type RedisConnection = string | RedisSettings | RedisClient

/** Options of ioredis, with `cluster` for a cluster's first nodes. */
export interface RedisSettings {
  cluster?: readonly (string | { host: string, port: number })[]
  sentinels?: readonly { host: string, port: number }[]
  [option: string]: unknown
}

/** Milliseconds between attempts to connect: few, because a service is waiting for it. */
const RETRY_MS = [20, 50, 100, 200]
/** Milliseconds that a connection attempt, and a server that owes an answer, may take: an attempt that a slow server took is given up for one that it may answer at once. */
const CONNECT_MS = 1000
const SILENT_MS = 1500

/**
 * What a client of your own is best made with: commands that cannot be sent, or whose connection breaks, fail at once.
 * Spread them into ioredis' options (of a cluster: into `redisOptions`).
 */
export const REDIS_OPTIONS = {
  enableOfflineQueue: false,
  autoResendUnfulfilledCommands: false,
  maxRetriesPerRequest: 0,
  connectTimeout: CONNECT_MS,
  socketTimeout: SILENT_MS,
  retryStrategy: retryAfter,
  sentinelRetryStrategy: retryAfter,
  sentinelReconnectStrategy: retryAfter,
  failoverDetector: true,
  // A master that was demoted still answers: the connection must look for the new one.
  reconnectOnError: (error: Error) => error.message.startsWith('READONLY'),
}

function retryAfter (times: number): number {
  return RETRY_MS[Math.min(times, RETRY_MS.length) - 1]!
}

export function isClient (redis: RedisConnection): redis is RedisClient {
  return typeof redis === 'object' && typeof (redis as RedisClient).call === 'function'
}

/** @throws Error where the optional package ioredis is not installed */
export async function connectRedis (redis: Exclude<RedisConnection, RedisClient>): Promise<RedisClient> {
  const { Redis, Cluster } = await import('ioredis')
  if (typeof redis === 'string') return new Redis(redis, REDIS_OPTIONS) as unknown as RedisClient
  const { cluster, ...own } = redis
  if (cluster === undefined) return new Redis({ ...REDIS_OPTIONS, ...own } as never) as unknown as RedisClient
  const { enableOfflineQueue, ...node } = REDIS_OPTIONS
  return new Cluster(cluster as never, {
    enableAutoPipelining: true,
    enableOfflineQueue,
    clusterRetryStrategy: retryAfter,
    retryDelayOnFailover: CONNECT_MS / 10,
    retryDelayOnClusterDown: CONNECT_MS / 10,
    slotsRefreshTimeout: CONNECT_MS,
    slotsRefreshInterval: CONNECT_MS,
    redisOptions: { ...node, ...own },
  } as never) as unknown as RedisClient
}
