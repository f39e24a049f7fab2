/**
 * Shared short-lived state: counters, claims, compare-and-swap, each with a time to live.
 *
 * Threat: checks that read, then write, are passed twice by parallel requests (CWE-367); memory that grows with
 * attackers (CWE-770), or that is bounded by forgetting the very ones who are over their limit.
 * Defence: every operation that decides is atomic, and the bound is held by forgetting what is harmless first;
 * when only what must be remembered is left, operations refuse with 503 and a `state_full` event. On Redis the
 * processes of a service share it; where that is away or slow, operations fail within their deadline, at once while it stays
 * away, and go on when it is back; `state_away` and `state_back` say so.
 * Not covered: durability. What must outlive a restart belongs in a database.
 */
import type { FastifyInstance } from 'fastify'
import { createError } from '@fastify/error'
import { Type, type Static } from '@sinclair/typebox'
import fp from 'fastify-plugin'
import { measured } from '../measured.js'
import { checkOptions } from '../options.js'
import { tlsFaultOf, warnOfPeer, type Peer } from '../peers.js'
import { REDUCED_CAPACITY, tellInProblem } from '../problem.js'
import { connectRedis, faultOfClient, isClient, peerOfRedis, type RedisConnection } from './connect.js'
import { PROBE, type RedisClient } from './line.js'
import { memoryState } from './memory.js'
import type { State } from './port.js'
import { redisState } from './redis.js'

export { REDIS_OPTIONS } from './connect.js'
export type { RedisConnection, RedisSettings } from './connect.js'
export type { RedisClient } from './line.js'
export type { Algorithm, Ban, Counter, CounterOptions, Decision, MaybePromise, State, Window } from './port.js'

declare module 'fastify' {
  interface FastifyInstance {
    /** Shared short-lived state. */
    state: State
  }
}

/** The bound is reached and everything in it must be remembered. */
export const StateFull = createError('FST_BASTION_STATE_FULL', 'The service is overloaded, try again later', 503)
/** The store does not answer, or not in time; what became of the operation is unknown. */
export const StateUnavailable = createError('FST_BASTION_STATE_UNAVAILABLE', 'This cannot be checked at the moment, try again shortly', 503)
/** An option of the state concern is wrong. */
export const StateMisconfigured = createError<[string]>('FST_BASTION_STATE_MISCONFIGURED', '%s', 500, TypeError)

export const StateOptions = Type.Object({
  maxEntries: Type.Optional(Type.Integer({
    minimum: 100, description: 'In memory: keys held at most: half for what may be forgotten, a quarter each for pinned values and for tallies', default: 1_000_000,
  })),
  maxSubjects: Type.Optional(Type.Integer({ minimum: 100, description: 'In memory: subjects that one counter holds at most', default: 1_000_000 })),
  deadline: Type.Optional(Type.Integer({ minimum: 1, description: 'On Redis: milliseconds after which an operation has failed', default: 100 })),
  prefix: Type.Optional(Type.String({ minLength: 1, maxLength: 64, pattern: '^[^{}\\s]+$', description: 'On Redis: what all keys begin with', default: 'bastion' })),
  replicas: Type.Optional(Type.Integer({
    minimum: 0,
    description: 'On Redis, not on a cluster: replicas that must have what ends or spends something before it counts as done; with 0, a failover may forget the last of it',
    default: 0,
  })),
}, { additionalProperties: false })
export type StateOptions = Static<typeof StateOptions> & {
  /** Shared state of several processes; without it each process has its own, in memory. */
  redis?: RedisConnection
  /** With `redis`: 32 bytes or more, the same in all processes. Keys are named by its HMAC, so that no address or credential stands in them. */
  secret?: string | Buffer
  /** Milliseconds since the epoch; for tests. */
  now?: () => number
}

/** Seconds after which a request that found the state full, or away, may come again. */
const RETRY_WHEN_FULL = '10'
const RETRY_WHEN_AWAY = '2'
/** Milliseconds between two events that say the same. */
const QUIET_MS = 10_000
/** Milliseconds that boot waits for Redis, before it goes on without. */
const BOOT_MS = 2000
const MIN_SECRET = 32
/** Buckets of what an operation takes. */
const STATE_SECONDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25]
/** What a server says of credentials and rights: no waiting helps. */
const REFUSED = /^(?:WRONGPASS|NOAUTH|NOPERM|ERR AUTH|ERR Client sent AUTH|ERR unknown command)/i

async function state (app: FastifyInstance, options: StateOptions): Promise<void> {
  const { now, redis, secret, ...plain } = options
  checkOptions(StateOptions, plain, 'state', StateMisconfigured)
  const { maxEntries = 1_000_000, maxSubjects = 1_000_000 } = plain
  const time = now ?? Date.now
  const bounds = { maxEntries, maxSubjects }
  const tellRefused = teller('state_full', { effect: 'refused', reason: 'a request was refused: everything that is held must be remembered', ...bounds })
  const tellForgotten = teller('state_full', { effect: 'forgotten', reason: 'a value was forgotten before its time: somebody may have to sign in again', ...bounds })
  const tellNoMemory = teller('state_full', { effect: 'refused', reason: 'Redis has no memory left' })
  const tellUnconfirmed = teller('state_unconfirmed', { reason: 'too few replicas have what should be ended: those who wanted it get a 503', severity: 'critical' })
  const local = memoryState({ maxEntries, maxSubjects, now: time, forgot: tellForgotten, refuse () { throw full(undefined) } })
  const store = redis === undefined ? local : await onRedis(redis)
  app.decorate('state', store)
  app.addHook('onClose', async () => { await store.close() })

  async function onRedis (connection: RedisConnection): Promise<State> {
    const { deadline = 100, prefix = 'bastion', replicas = 0 } = plain
    if (secret === undefined || Buffer.byteLength(secret) < MIN_SECRET) throw new StateMisconfigured(`state: secret: needs ${MIN_SECRET} bytes or more where redis is set`)
    const isOwn = !isClient(connection)
    const client = isOwn ? await connectRedis(connection).catch((error: Error) => { throw new StateMisconfigured(`state: redis: ${error.message}`) }) : connection
    const refuse = (reason: string): never => {
      if (isOwn) client.disconnect() // a connection would keep the process that does not boot from ending
      throw new StateMisconfigured(`state: ${reason}`)
    }
    if (replicas > 0 && client.isCluster === true) refuse('replicas: cannot be waited for on a cluster')
    const wrong = faultOfClient(client)
    if (wrong !== null) refuse(`redis: ${wrong}`)
    const peer: Peer = peerOfRedis(connection)
    warnOfPeer(app.log, peer)
    app.plan.contribute({ concern: 'state', compile: ({ kind }) => kind === 'not-found' ? { promise: { peer } } : {} })
    const fault = await readied(client) ?? await tried(client, `${prefix}:boot`)
    const untrusted = tlsFaultOf(faultOfNode(fault))
    if (untrusted !== null) refuse(`redis: TLS: ${untrusted}`)
    if (fault !== null && REFUSED.test(fault.message)) refuse(`redis: ${fault.message}`)
    let since = 0
    const shared = redisState({
      client,
      isOwn,
      secret,
      prefix,
      deadline,
      replicas,
      now,
      local,
      full,
      unconfirmed: tellUnconfirmed,
      unavailable: cause => reduced(new StateUnavailable(), cause, RETRY_WHEN_AWAY),
      took: measured(app).histogram('bastion_state_seconds', 'Operations of shared state, from the question to the answer', STATE_SECONDS),
      changed (isAway, cause) {
        if (isAway) since = performance.now()
        if (isAway) app.events.record('state_away', null, { reason: reasonOf(cause as Error), severity: 'critical' })
        else app.events.record('state_back', null, { awayMs: Math.round(performance.now() - since) })
      },
    })
    await shared.answers() // a server that is away at boot is away from then on: operations do not wait to learn it
    tellEviction(client).catch(() => {}) // not waited for: it may hang as long as the server does
    return shared
  }

  /** A server that forgets what must be remembered when its memory is full lets in whom it forgot. */
  async function tellEviction (client: RedisClient): Promise<void> {
    const memory = client.status === 'ready' && client.isCluster !== true ? await client.call('INFO', 'memory').then(String, () => '') : ''
    const policy = /^maxmemory_policy:(\S+)/m.exec(memory)?.[1] ?? 'noeviction'
    if (policy !== 'noeviction' && !/^maxmemory:0\s/m.test(memory)) {
      app.log.warn({ policy }, 'Redis may forget revocations and spent codes when its memory is full: set maxmemory-policy noeviction')
    }
  }

  function full (cause: unknown): Error {
    if (cause === undefined) tellRefused()
    else tellNoMemory()
    return reduced(new StateFull(), cause, RETRY_WHEN_FULL)
  }

  /** A flood makes many of these: one event now and then says how many. */
  function teller (type: 'state_full' | 'state_unconfirmed', details: Record<string, unknown>): () => void {
    const runs = app.events.runs(type, { quietMs: QUIET_MS, max: 1, now: time })
    return () => { runs.record('', null, details) }
  }
}

/** What the client is told: later, and no more. That it happens is said by an event, and not for each request. */
function reduced (error: Error, cause: unknown, retryAfter: string): Error {
  return tellInProblem(Object.assign(error, { cause, expose: true, headers: { 'retry-after': retryAfter } }), { type: REDUCED_CAPACITY })
}

/** ioredis speaks of its own options where a connection breaks. */
function reasonOf ({ name, message }: Error): string {
  return name === 'MaxRetriesPerRequestError' || message.startsWith("Stream isn't writeable") ? 'the connection broke' : message
}

/** A cluster hides what its last node said. */
function faultOfNode (error: Error | null): unknown {
  return (error as { lastNodeError?: unknown } | null)?.lastNodeError ?? error
}

/** Runs a script as operations do, not for ever; answers what went wrong, null where nothing did or nothing is known. */
async function tried (client: RedisClient, key: string): Promise<Error | null> {
  const late = new Promise<null>(resolve => { setTimeout(resolve, BOOT_MS, null).unref() })
  return Promise.race([late, client.call('EVAL', PROBE, 1, key).then(() => null, (error: Error) => error)])
}

/** Waits for the connection, not for ever; answers the last that went wrong, null where it is ready. */
async function readied (client: RedisClient): Promise<Error | null> {
  let fault: Error | null = new Error('no answer')
  const isReady = new Promise<void>(resolve => {
    const timer = setTimeout(resolve, BOOT_MS)
    const done = () => {
      clearTimeout(timer)
      resolve()
    }
    client.on('error', error => {
      fault = error
      if (REFUSED.test(error.message) || tlsFaultOf(faultOfNode(error)) !== null) done()
    })
    client.once('ready', done)
    client.once('end', done)
    if (client.status === 'ready') done()
    else if (client.status === 'wait') client.connect().catch(() => {}) // one that connects with its first command
  })
  await isReady
  return client.status === 'ready' ? null : fault
}

export default fp(state, { fastify: '5.x', name: 'bastion-state', dependencies: ['bastion-plan', 'bastion-events'] })
