/**
 * Sessions: people who are signed in by a browser, and what is known of them on the server.
 *
 * Threat: fixation (CWE-384), sessions that outlive logout or a change of rights (CWE-613), cookies that scripts or
 * other sites can use (CWE-1004, CWE-614, CWE-1275), a logout that a request in flight undoes.
 * Defence: an id of 256 bits in a signed cookie, fresh at sign-in and at every change of rights; nothing is carried over
 * but what is named; idle and absolute lifetime, judged here; every write is a compare-and-swap, so that what was ended
 * stays ended. Nothing is kept for who only looks, and a request without the cookie pays nothing.
 * Not covered: requests that other sites make a browser send; that is csrf, without which this does not load.
 * Sources: RFC 6265bis, OWASP Session Management, ASVS 7.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import cookie from '@fastify/cookie'
import session, { type FastifySessionObject } from '@fastify/session'
import fp from 'fastify-plugin'
import type { Principal, Reading } from '../identity.js'
import { checkKeys, checkOptions } from '../options.js'
import { SessionsOptions, type RenewOptions, type Sessions, type SessionSubject, type StartOptions } from './contract.js'
import { devicesOf } from './devices.js'
import { SessionInvalid, SessionsMisconfigured } from './errors.js'
import { generationKey, movedText, newSessionId, publicId, readRecord, sessionKey, successorIn, type SessionRecord, type SignedIn } from './record.js'
import { apply, changesOf, dataOf, storeOf, type Held } from './store.js'

export { SessionsOptions } from './contract.js'
export { SessionInvalid, SessionsBusy, SessionsMisconfigured } from './errors.js'
export type { RenewOptions, SessionLoader, Sessions, SessionSubject, StartOptions } from './contract.js'
export type { Device } from './devices.js'

declare module 'fastify' {
  interface FastifyContextConfig {
    /** `false`: a request is no sign that somebody is there, as where a page asks by itself, and does not keep a session from idling out (ASVS 7.3.1). Default: true. */
    activity?: boolean
  }
  interface FastifyInstance {
    sessions: Sessions
  }
  interface FastifyRequest {
    /** @internal */
    [visit]: Visit | null
  }
}

/** What a request has to do with sessions; null without a cookie and without a look at `request.session`. */
interface Visit {
  /** The cookie as it came. */
  offered: string | null
  session: FastifySessionObject | null
  /** The cookie is good for nothing. */
  isDead: boolean
  /** Its session ended moments ago: another answer may have given the browser a new cookie, which is left to it. */
  isReplaced: boolean
  /** The browser is told to forget its cookie. */
  takesBack: boolean
  /** More than one cookie of that name. */
  isSeveral: boolean
  /** It could not be found out. */
  fault: Error | null
  /** Whose session is made next. */
  next: Held | null
}

const MAX_AGENT = 256
/** A cookie that is longer is none of ours. */
const MAX_COOKIE = 1024
/** Milliseconds at most between two notes that a session is in use; fewer where it idles out sooner. */
const SEEN_EVERY_MS = 60_000
const TRIES = 10

const visit = Symbol('bastion.sessions.visit')

async function sessions (app: FastifyInstance, options: SessionsOptions): Promise<void> {
  const { secret, now = Date.now, ...plain } = options
  checkOptions(SessionsOptions, plain, 'sessions', SessionsMisconfigured)
  const secrets = checkKeys(secret, 'sessions: secret', SessionsMisconfigured)
  const { secure = true, sameSite = 'lax', persistent = false, idleTtl = 1800, absoluteTtl = 43_200, perUser = 50 } = plain
  if (idleTtl > absoluteTtl) throw new SessionsMisconfigured('sessions: idleTtl: must not be longer than absoluteTtl')
  const name = `${secure ? '__Host-' : ''}${plain.name ?? 'session'}`
  const attributes = { path: '/', httpOnly: true, secure, sameSite }
  const [idleMs, absoluteMs] = [idleTtl * 1000, absoluteTtl * 1000]
  const seenEveryMs = Math.min(SEEN_EVERY_MS, idleMs / 10)
  const state = plain.deadline === undefined ? app.state : app.state.within(plain.deadline)
  const devices = devicesOf({ state, absoluteMs, idleMs, perUser, now })
  const { store, heldBy, hold, foundNow, noteSeen } = storeOf({ state, devices, log: app.log, idleMs, now, newRecord: () => newRecord(now()) })

  if (!app.hasDecorator('parseCookie')) await app.register(cookie)
  // In a scope of its own its hooks run for no route: what they do for each request is done here, where there is a cookie.
  let scope!: FastifyInstance
  await app.register(async function sessionObjects (own) {
    await own.register(session, {
      secret: secrets.map(one => one.toString('base64url')), cookieName: name, cookie: attributes, store, idGenerator: nextId, saveUninitialized: false, rolling: false,
    })
    scope = own
  })
  app.decorateRequest(visit as never, null as never)
  app.decorateRequest('session', { getter: sessionOf, setter: setSession } as never)
  app.decorate('sessions', {
    start,
    renew,
    end,
    list: devices.list,
    async endOne (userId, id) {
      const wasThere = await devices.endOne(userId, id)
      if (wasThere) app.events.record('session_ended', null, { user: userId, session: id })
      return wasThere
    },
    async endAll (userId, { except } = {}) {
      await devices.endAll(userId, except)
      app.events.record('session_ended', null, { user: userId, all: true })
    },
  })
  app.csrf.credential(keptId)
  app.identity.reader({ name: 'session', read })
  app.plan.contribute({ concern: 'sessions', stage: 'recall', compile: () => ({ step: recall }) })
  app.plan.contribute({
    concern: 'sessions',
    stage: 'save',
    compile ({ options }) {
      const { activity = true } = options.config ?? {}
      if (typeof activity !== 'boolean') throw new SessionsMisconfigured('sessions: activity is true or false')
      return { step: (request, reply) => save(request, reply, activity), promise: { cookie: name, ...!activity && { activity } } }
    },
  })

  /** Fetches what the cookie names. A cookie that we did not sign costs no look-up. */
  function recall (request: FastifyRequest): void | Promise<void> {
    const header = request.headers.cookie
    if (header === undefined || !header.includes(name)) return
    const offered = app.parseCookie(header)[name]
    if (offered === undefined) return
    const seen = request[visit] = newVisit(offered)
    seen.isSeveral = timesIn(header, `${name}=`) > 1
    if (seen.isSeveral || offered.length > MAX_COOKIE) {
      seen.isDead = seen.takesBack = !seen.isSeveral
      return
    }
    let isDone = false
    let go = () => {}
    scope.decryptSession(offered, request, (error: Error | undefined) => {
      isDone = true
      const isReplaced = foundNow() === 'ended'
      if (error !== undefined && error !== null) seen.fault = error
      else if (heldBy(seen.session!) === undefined) Object.assign(seen, { isDead: true, isReplaced, takesBack: !isReplaced, session: null })
      go()
    })
    if (!isDone) return new Promise(resolve => { go = resolve })
  }

  function read (request: FastifyRequest): Reading {
    const seen = request[visit]
    if (seen === null) return null
    if (seen.isSeveral) return 'several'
    if (seen.fault !== null) throw seen.fault
    if (seen.isDead || seen.session === null) return { failure: new SessionInvalid() }
    const { id, record: { user } } = heldBy(seen.session)!
    return user === null ? null : { principal: principalFrom(id, user) }
  }

  /** `request.session`: the one that the cookie named; else one that is only kept where something is put into it. */
  function sessionOf (this: FastifyRequest): FastifySessionObject | null {
    const seen = visitOf(this)
    if (seen.fault !== null) throw seen.fault
    if (seen.session === null) scope.decryptSession('', this, () => {})
    return seen.session
  }

  /** The id of a session that is kept, or will be with this answer. */
  function keptId (request: FastifyRequest): string | null {
    const current = request[visit]?.session ?? null
    if (current === null) return null
    return (heldBy(current)?.text ?? null) !== null || current.isModified() ? current.sessionId : null
  }

  function setSession (this: FastifyRequest, made: FastifySessionObject | null): void {
    const seen = visitOf(this)
    seen.session = made
    if (made === null) {
      seen.takesBack = seen.offered !== null
      return
    }
    // Made of what the store has just answered: at the beginning of a request, or as a handler loads it anew.
    const found = foundNow()
    if (found !== null && found !== 'ended' && found.id === publicId(made.sessionId)) hold(made, found)
  }

  async function start (request: FastifyRequest, known: SessionSubject, { load, keep = [] }: StartOptions = {}): Promise<void> {
    const gen = Number(await state.get(generationKey(known.id)) ?? 0)
    const subject = load === undefined ? known : await load(known.id)
    if (subject === null) throw new SessionInvalid()
    const time = now()
    const user = userFrom(subject, known.id, known.authTime ?? Math.floor(time / 1000), known.amr)
    const before = request[visit]?.session ?? null
    const data = before === null ? {} : Object.fromEntries(Object.entries(dataOf(before)).filter(([key]) => keep.includes(key)))
    if (before !== null) await endSession(before)
    await list(request, user.id, await make(request, { ...newRecord(time, request), user, gen }, data))
    app.events.record('session_started', request, { user: user.id })
  }

  async function renew (request: FastifyRequest, { load, authTime, amr }: RenewOptions = {}): Promise<void> {
    const before = request[visit]?.session ?? null
    const known = before === null ? undefined : heldBy(before)
    const userId = known?.record.user?.id
    if (before === null || known === undefined || userId === undefined) throw new SessionInvalid()
    const subject = load === undefined ? null : await load(userId)
    if (load !== undefined && subject === null) {
      await end(request)
      throw new SessionInvalid()
    }
    const changes = changesOf(known.record.data, dataOf(before))
    let text: string | null = null
    for (let tries = 0; tries < TRIES; tries++) {
      text = await state.get(sessionKey(known.id))
      const record = readRecord(text)
      if (record?.user === undefined || record.user === null) break
      const user = userFrom(subject ?? record.user, userId, authTime ?? record.user.authTime, amr ?? (authTime === undefined ? record.user.amr : undefined))
      const id = await make(request, { ...record, user, seen: now() }, apply(record.data, changes))
      // The new one is there before the old one says so: whoever ends the old one from now on ends the new one.
      const outcome = await state.swap(sessionKey(known.id), text!, movedText(id), idleMs)
      if (outcome === 'swapped') return list(request, userId, id, known.id)
      await devices.drop(id)
      if (outcome === 'missing') break
    }
    request.session = null as never
    // Renewed by another request at the same time: the browser has its cookie from there.
    if (successorIn(text) !== null) Object.assign(request[visit]!, { isReplaced: true, takesBack: false })
    throw new SessionInvalid()
  }

  async function end (request: FastifyRequest): Promise<void> {
    const before = request[visit]?.session ?? null
    if (before !== null) await endSession(before)
    request.session = null as never
  }

  async function endSession (ending: FastifySessionObject): Promise<void> {
    const known = heldBy(ending)
    if (known === undefined) return
    await devices.drop(known.id)
    if (known.record.user !== null) await devices.remove(known.record.user.id, known.id)
  }

  /** A session object with a fresh id in place of the request's, kept at once; answers its public id. */
  async function make (request: FastifyRequest, record: SessionRecord, data: Record<string, unknown>): Promise<string> {
    const seen = visitOf(request)
    const next: Held = { id: '', record, text: null }
    seen.fault = null
    seen.next = next
    try {
      scope.decryptSession('', request, () => {})
    } finally {
      seen.next = null
    }
    const made = Object.assign(seen.session!, data)
    hold(made, next)
    await made.save()
    return next.id
  }

  /** A session that is in no list could not be ended: there is none. */
  async function list (request: FastifyRequest, userId: string, id: string, replaces?: string): Promise<void> {
    try {
      await devices.add(userId, id, replaces)
    } catch (error) {
      request.session = null as never
      await devices.drop(id)
      throw error
    }
  }

  /** Called as a session object is made. */
  function nextId (request?: FastifyRequest): string {
    const next = request?.[visit]?.next ?? null
    const sessionId = newSessionId(next?.record.user?.id ?? null)
    if (next !== null) next.id = publicId(sessionId)
    return sessionId
  }

  /** After the handler: keeps what changed, gives or takes the cookie. */
  function save (request: FastifyRequest, reply: FastifyReply, isActivity: boolean): void | Promise<void> {
    const seen = request[visit]
    if (seen === null || seen.fault !== null) return
    const { session: current } = seen
    if (seen.isReplaced && (current === null || heldBy(current) === undefined)) return
    if (current?.isModified() === true) return current.save().then(() => { giveCookie(seen, reply) })
    const known = current === null ? undefined : heldBy(current)
    if (isActivity && known !== undefined && known.text !== null && now() - known.record.seen > seenEveryMs) noteSeen(known)
    giveCookie(seen, reply)
  }

  function giveCookie ({ session: current, offered, takesBack }: Visit, reply: FastifyReply): void {
    const known = current === null ? undefined : heldBy(current)
    if (current === null || known === undefined || known.text === null) {
      if (takesBack) reply.clearCookie(name, attributes)
      return
    }
    // A fresh one, or one that was signed by an older secret.
    if (current.encryptedSessionId !== offered) {
      reply.setCookie(name, current.encryptedSessionId, { ...attributes, ...persistent && { maxAge: Math.max(1, Math.floor((known.record.expires - now()) / 1000)) } })
    }
  }

  function newRecord (time: number, request?: FastifyRequest): SessionRecord {
    const agent = String(request?.headers['user-agent'] ?? '').slice(0, MAX_AGENT)
    return { user: null, gen: 0, created: time, seen: time, expires: time + absoluteMs, agent, address: request?.ip ?? '', data: {} }
  }
}

function newVisit (offered: string | null): Visit {
  return { offered, session: null, isDead: false, isReplaced: false, takesBack: false, isSeveral: false, fault: null, next: null }
}

function visitOf (request: FastifyRequest): Visit {
  request[visit] ??= newVisit(null)
  return request[visit]
}

/** Frozen: what authorization was decided by does not change while the handler runs. */
function principalFrom (id: string, { id: userId, roles, plan, authTime, amr }: SignedIn): Principal {
  return Object.freeze({
    kind: 'user',
    id: userId,
    userId,
    roles: Object.freeze(roles),
    ...plan !== undefined && { plan },
    via: 'session',
    authTime,
    ...amr !== undefined && { amr: Object.freeze(amr) },
    credentialId: id,
  })
}

function userFrom ({ roles, plan }: Omit<SessionSubject, 'authTime' | 'amr'>, id: string, authTime: number, amr: readonly string[] | undefined): SignedIn {
  return { id, roles: [...roles], authTime, ...plan !== undefined && { plan }, ...amr !== undefined && { amr: [...amr] } }
}

function timesIn (text: string, part: string): number {
  let times = 0
  for (let at = text.indexOf(part); at !== -1; at = text.indexOf(part, at + 1)) {
    if (at === 0 || text[at - 1] === ' ' || text[at - 1] === ';') times += 1
  }
  return times
}

export default fp(sessions, { fastify: '5.x', name: 'bastion-sessions', dependencies: ['bastion-plan', 'bastion-events', 'bastion-state', 'bastion-identity', 'bastion-csrf'] })
