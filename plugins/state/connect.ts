/** Connects to Redis the way shared state wants it: nothing waits in a queue, nothing is sent twice, it comes back soon. */
import { authoritiesOf, isLocalHost, type Peer } from '../peers.js'
import type { RedisClient } from './line.js'

/**
 * One server by URL (`redis://`, `rediss://` for TLS with verification, `?sslrootcert=` for the file of its authority; percent-encode the password); one server or Sentinel by ioredis' options; a cluster by its
 * first nodes; or a client of your own, which you close.
 */
export type RedisConnection = string | RedisSettings | RedisClient

/** Options of ioredis; with `cluster`, its first nodes, ioredis' options of clusters, and `username`, `password` and `tls` for all nodes. */
export interface RedisSettings {
  cluster?: readonly (string | { host: string, port: number })[]
  username?: string
  password?: string
  tls?: object
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

/**
 * @throws Error where the optional package ioredis is not installed, or it cannot read its options; of those it says nothing, because
 * a password is among them
 */
export async function connectRedis (redis: Exclude<RedisConnection, RedisClient>): Promise<RedisClient> {
  const { Redis, Cluster } = await import('ioredis')
  if (typeof redis === 'object' && !['host', 'path', 'sentinels', 'cluster'].some(name => redis[name] !== undefined)) throw new Error('the options name no server: host, path, sentinels or cluster')
  const unreadable = new Error(typeof redis === 'string' ? 'the URL cannot be read: percent-encode the password' : 'ioredis does not take these options')
  if (typeof redis === 'string' && !/^rediss?:\/\//.test(redis)) throw new Error('the URL must begin with redis:// or rediss://')
  const byUrl = typeof redis === 'string' ? readUrl(redis, unreadable) : null
  try {
    if (byUrl !== null) return new Redis(byUrl.url, { ...REDIS_OPTIONS, ...byUrl.tls !== undefined && { tls: byUrl.tls } }) as unknown as RedisClient
    if (typeof redis === 'string') throw unreadable
    const { cluster, username, password, tls, redisOptions, ...own } = redis
    if (cluster === undefined) return new Redis({ ...REDIS_OPTIONS, ...redis } as never) as unknown as RedisClient
    const { enableOfflineQueue, ...node } = REDIS_OPTIONS
    return new Cluster(cluster as never, {
      enableOfflineQueue,
      clusterRetryStrategy: retryAfter,
      retryDelayOnFailover: CONNECT_MS / 10,
      retryDelayOnClusterDown: CONNECT_MS / 10,
      slotsRefreshTimeout: CONNECT_MS,
      slotsRefreshInterval: CONNECT_MS,
      ...own,
      redisOptions: { ...node, ...username !== undefined && { username }, ...password !== undefined && { password }, ...tls !== undefined && { tls }, ...redisOptions as object },
    } as never) as unknown as RedisClient
  } catch {
    throw unreadable
  }
}

/** The URL as ioredis takes it, and what TLS needs beside it. */
function readUrl (text: string, unreadable: Error): { url: string, tls?: { ca: string } } {
  if (!URL.canParse(text)) throw unreadable
  const url = new URL(text)
  // ioredis would believe it: an empty one makes a plain connection of rediss://.
  if (url.searchParams.has('tls')) throw new Error('tls: is said by rediss://, not by a parameter')
  const path = url.searchParams.get('sslrootcert')
  if (path === null) return { url: text }
  if (url.protocol !== 'rediss:') throw new Error('sslrootcert: is for rediss://')
  url.searchParams.delete('sslrootcert')
  return { url: url.href, ...path !== 'system' && { tls: { ca: authoritiesOf(path) } } }
}

/** How safe the way to the server is; of several the one that is not on this machine. */
export function peerOfRedis (redis: RedisConnection): Peer {
  const { hosts, tls } = typeof redis === 'string'
    ? { hosts: [new URL(redis).hostname], tls: redis.startsWith('rediss:') }
    : placeOf(isClient(redis) ? { ...redis.options, ...redis.options?.redisOptions, cluster: (redis as { startupNodes?: unknown }).startupNodes } : { ...redis, ...redis.redisOptions as object })
  const host = hosts.find(name => !isLocalHost(name)) ?? hosts[0] ?? 'localhost'
  const isVerified = (tls as { rejectUnauthorized?: boolean } | undefined)?.rejectUnauthorized !== false
  return { name: 'state', host, isLocal: isLocalHost(host), tls: !tls ? 'none' : isVerified ? 'verified' : 'unverified' }
}

function placeOf ({ host, path, sentinels, cluster, tls }: Record<string, any>): { hosts: string[], tls: unknown } {
  const nodes = (sentinels ?? cluster ?? [path ?? host ?? 'localhost']) as (string | { host?: string })[]
  return { hosts: nodes.map(node => typeof node === 'string' ? hostOfNode(node) : node.host ?? 'localhost'), tls }
}

/** `host`, `host:port`, a URL or a path. */
function hostOfNode (node: string): string {
  if (node.startsWith('/')) return node
  const url = node.includes('://') ? node : `redis://${node}`
  return URL.canParse(url) ? new URL(url).hostname : node
}

/** What of a client's options would make its answers wrong; null where nothing would. */
export function faultOfClient ({ isCluster = false, options = {} }: RedisClient): string | null {
  const { stringNumbers, enableAutoPipelining, scaleReads = 'master' } = options
  if (stringNumbers === true) return 'stringNumbers: numbers must come as numbers'
  if (isCluster && scaleReads !== 'master') return 'scaleReads: a replica may not know yet what was ended: read from masters'
  // One that is redirected in part is not sent again.
  if (isCluster && enableAutoPipelining === true) return 'enableAutoPipelining: fails on a cluster while slots move'
  return null
}
