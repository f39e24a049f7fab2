/**
 * HashiCorp Vault, by its HTTP API (v1): KV version 2, and secrets that Vault makes and leases.
 *
 * Threat: a token that leaks is good for whatever its policy allows; a token that ends takes the secrets with it.
 * Defence: TLS with a checked chain, plain HTTP to this machine alone (an agent beside the service); no redirect to another host; the token and
 * its leases are renewed after two thirds of their time, and where that is refused it signs in anew; a token that it got itself is revoked at
 * close, with its leases. No answer and no credential is in any message.
 * Not covered: what the policy of the role allows.
 * Sources: Vault's API documentation (KV v2, auth/token, auth/approle, auth/kubernetes, sys/leases).
 */
import { readFile } from 'node:fs/promises'
import { Type, type Static } from '@sinclair/typebox'
import { checkOptions } from '../options.js'
import { jittered, SYSTEM_CLOCK, type Clock } from './clock.js'
import { SettingsRefused, SourceFault } from './errors.js'
import { faultOf, remote, REMOTE_OPTIONS, retrying, type Retry } from './remote.js'
import { isPrivateEnough, requestJson, type JsonResponse } from './request.js'
import { isDefaultCredential } from './secrets.js'
import type { Source } from './source.js'
import { textsOf } from './texts.js'

const Fields = Type.Record(Type.String(), Type.String({ minLength: 1 }))
const Path = Type.String({ pattern: '^[^/?#\\s][^?#\\s]*[^/?#\\s]$|^[^/?#\\s]$' })
const Mount = Type.Optional(Path)
export const VaultSecret = Type.Union([
  Type.Object({ path: Path, mount: Mount, version: Type.Optional(Type.Integer({ minimum: 1 })), fields: Type.Optional(Fields) }, { additionalProperties: false }),
  Type.Object({ dynamic: Path, fields: Fields }, { additionalProperties: false }),
])
/**
 * A secret of KV version 2 (`mount` is `secret` unless it is said), or one that Vault makes (`database/creds/portal`).
 * `fields`: which field is which variable; without it fields are named as the variables are.
 */
export type VaultSecret = Static<typeof VaultSecret>

export const VaultOptions = Type.Object({
  address: Type.String({ pattern: '^https?://[^/?#@]+/?$', description: 'Of the server: https, or http on this machine' }),
  namespace: Type.Optional(Type.String({ pattern: '^[^\\s]+$', description: 'Of Vault Enterprise and HCP' })),
  secrets: Type.Array(VaultSecret, {
    minItems: 1,
    description: 'What is read, each `{ path, mount?, version?, fields? }` of KV version 2 or `{ dynamic, fields }`; the first that has a variable wins',
  }),
  ca: Type.Optional(Type.String({ pattern: '-----BEGIN CERTIFICATE-----', description: 'Certificates that are trusted instead of the system\'s own (PEM)' })),
  ...REMOTE_OPTIONS,
}, { additionalProperties: false })

/** A token (or what reads it, where an agent renews it); AppRole; or the service account of a pod, which is read anew at each sign-in. */
export type VaultAuth =
  | { token: string | (() => string | Promise<string>) }
  | { roleId: string, secretId: string, mount?: string }
  | { role: string, jwtPath?: string, mount?: string }

export type VaultOptions = Static<typeof VaultOptions> & {
  auth: VaultAuth
  /** For tests. */
  clock?: Clock
}

const Text = Type.String({ minLength: 1 })
const Auth = Type.Union([
  Type.Object({ token: Type.Union([Text, Type.Function([], Type.Unknown())]) }, { additionalProperties: false }),
  Type.Object({ roleId: Text, secretId: Text, mount: Mount }, { additionalProperties: false }),
  Type.Object({ role: Text, jwtPath: Type.Optional(Text), mount: Mount }, { additionalProperties: false }),
])
const SERVICE_ACCOUNT = '/var/run/secrets/kubernetes.io/serviceaccount/token'
/** Of its time, what may pass before it is renewed. */
const RENEW_AT = 2 / 3
/** Milliseconds between two attempts to renew at least. */
const SOON = 1000
/** The same, once it has ended. */
const LATER = 30_000

/** Something that ends: the token, or what was leased with it. */
interface Lease {
  /** Null: it does not end. */
  endsAt: number | null
  renewAt: number
  isRenewable: boolean
  /** Milliseconds that it had at first. */
  span: number
}
interface Session extends Lease { token: string, isOwn: boolean }
interface Leased extends Lease { id: string, data: unknown }
interface Granted { client_token?: unknown, lease_duration?: unknown, renewable?: unknown }

/** @throws SettingsRefused where its options are wrong */
export function vault (options: VaultOptions): Source {
  const { auth, clock = SYSTEM_CLOCK, ...plain } = options
  checkOptions(VaultOptions, plain, 'settings: vault', SettingsRefused)
  checkOptions(Auth, auth, 'settings: vault: auth', SettingsRefused)
  const { address, namespace, secrets, ca } = plain
  if (!URL.canParse(address)) throw new SettingsRefused('settings: vault: address: is no URL')
  const base = new URL(address)
  if (!isPrivateEnough(base)) throw new SettingsRefused('settings: vault: address: must begin with https://; http is for this machine alone, because a token is sent there')

  let session: Session | null = null
  const leases = new Map<string, Leased>()
  let cancel = () => {}
  let wake = () => {}
  let tell = (_message: string) => {}
  /** One thing at a time: a sign-in replaces what a renewal looks at. */
  let last: Promise<unknown> = Promise.resolve()
  const alone = <T>(run: () => Promise<T>): Promise<T> => {
    const next = last.then(run)
    last = next.catch(() => {})
    return next
  }

  const source = remote({
    name: `Vault (${base.host})`,
    options: { ...plain, clock },
    fetch: (retry, _names, isProduction) => alone(async () => {
      if (isProduction && isDefault(auth)) return { texts: {}, faults: ['Vault: its token or secret id is a well-known default'] }
      const texts = {}
      for (const secret of secrets.toReversed()) Object.assign(texts, await read(retry, secret))
      schedule()
      return { texts }
    }),
    open (wakeUp, say) {
      wake = wakeUp
      tell = say
    },
    close: retry => alone(async () => {
      cancel()
      if (session === null) return
      if (session.isOwn) await call(retry, 'POST', 'auth/token/revoke-self')
      else for (const { id } of leases.values()) await call(retry, 'PUT', 'sys/leases/revoke', { lease_id: id })
      session = null
    }),
  })

  /** The body of a success. */
  async function call (retry: Retry, method: string, path: string, body?: object, token: string | null = session?.token ?? null): Promise<Record<string, unknown>> {
    const what = path.split('?')[0]!
    return retrying(retry, async signal => {
      const response = await requestJson({
        url: new URL(`/v1/${path}`, base),
        method,
        headers: { 'x-vault-request': 'true', ...namespace !== undefined && { 'x-vault-namespace': namespace }, ...token !== null && { 'x-vault-token': token } },
        body,
        ca,
        signal,
      })
      if (response.status > 299) throw refusal(what, response)
      if (response.status !== 204 && (typeof response.body !== 'object' || response.body === null)) throw new SourceFault(`${what} was answered with something else than JSON`, { isPassing: true })
      return response.body as Record<string, unknown> ?? {}
    })
  }

  /** Signs in where there is no token, or none that is good any more. */
  async function signedIn (retry: Retry): Promise<Session> {
    if (session !== null && (session.endsAt === null || clock.now() < session.endsAt)) return session
    // What was leased ends with the token with which it was.
    leases.clear()
    session = 'token' in auth ? await withToken(retry, auth.token) : await withLogin(retry, auth)
    return session
  }

  async function withToken (retry: Retry, given: string | (() => string | Promise<string>)): Promise<Session> {
    const token = typeof given === 'string' ? given : await readable(retry, 'the token', given)
    const started = clock.now()
    try {
      const { data } = await call(retry, 'GET', 'auth/token/lookup-self', undefined, token)
      const { ttl, renewable } = (data ?? {}) as { ttl?: unknown, renewable?: unknown }
      return { token, isOwn: false, ...leaseOf({ lease_duration: ttl, renewable }, started) }
    } catch (error) {
      // Its policy may not let it look at itself; whether it is good is seen when it reads.
      if (faultOf(error, retry.timeout).status !== 403) throw error
      return { token, isOwn: false, ...leaseOf({}, started) }
    }
  }

  async function withLogin (retry: Retry, login: Exclude<VaultAuth, { token: unknown }>): Promise<Session> {
    const started = clock.now()
    const isAppRole = 'roleId' in login
    const body = isAppRole
      ? { role_id: login.roleId, secret_id: login.secretId }
      : { role: login.role, jwt: await readable(retry, 'the token of the service account', async () => (await readFile(login.jwtPath ?? SERVICE_ACCOUNT, 'utf8')).trim()) }
    const answer = await call(retry, 'POST', `auth/${escaped(login.mount ?? (isAppRole ? 'approle' : 'kubernetes'))}/login`, body, null)
    const granted = (answer.auth ?? {}) as Granted
    if (typeof granted.client_token !== 'string' || granted.client_token === '') throw new SourceFault('the sign-in was answered without a token')
    return { token: granted.client_token, isOwn: true, ...leaseOf(granted, started) }
  }

  async function read (retry: Retry, secret: VaultSecret): Promise<Record<string, string>> {
    const path = 'path' in secret ? `${escaped(secret.mount ?? 'secret')}/data/${escaped(secret.path)}${secret.version === undefined ? '' : `?version=${secret.version}`}` : escaped(secret.dynamic)
    const { isOwn } = await signedIn(retry)
    const kept = leases.get(path)
    if (kept !== undefined && (kept.endsAt === null || clock.now() < kept.endsAt)) return textsOf(kept.data, path, secret.fields)
    const started = clock.now()
    let answer
    try {
      answer = await call(retry, 'GET', path)
    } catch (error) {
      // The token may have been revoked; whether the policy forbids it, a new one tells.
      if (faultOf(error, retry.timeout).status !== 403 || (!isOwn && typeof (auth as { token: unknown }).token === 'string')) throw error
      session = null
      await signedIn(retry)
      answer = await call(retry, 'GET', path)
    }
    if ('path' in secret) return textsOf((answer.data as { data?: unknown } | undefined)?.data, path, secret.fields)
    const { lease_id: id, data } = answer
    const texts = textsOf(data, path, secret.fields)
    if (typeof id === 'string' && id !== '') leases.set(path, { id, data, ...leaseOf(answer, started) })
    return texts
  }

  function schedule (earliest = 0): void {
    cancel()
    const due = [session, ...leases.values()].filter(one => one !== null && one.endsAt !== null).map(one => one!.renewAt)
    if (due.length > 0 && !source.retry.closing.aborted) cancel = clock.after(Math.max(Math.min(...due) - clock.now(), earliest), () => { alone(renew).catch(() => {}) })
  }

  /** Renews what is due; what cannot be renewed is had anew, and whoever reads settings is told to read again. */
  async function renew (): Promise<void> {
    const { retry } = source
    if (retry.closing.aborted || session === null) return
    try {
      if (isDue(session)) await renewToken(retry, session)
      for (const [path, lease] of leases) if (isDue(lease)) await renewLease(retry, path, lease)
    } catch (error) {
      // Nobody answers: once more before it ends, and then it is had anew when it is read.
      if (!retry.closing.aborted) tell(`${source.name}: ${faultOf(error, retry.timeout).message}`)
    }
    for (const one of [session, ...leases.values()]) if (one !== null && isDue(one)) one.renewAt = clock.now() + (clock.now() < one.endsAt! ? Math.max((one.endsAt! - clock.now()) / 3, SOON) : LATER)
    schedule(SOON)
  }

  function isDue (one: Lease): boolean {
    return one.endsAt !== null && clock.now() >= one.renewAt
  }

  async function renewToken (retry: Retry, now: Session): Promise<void> {
    const started = clock.now()
    if (now.isRenewable && started < now.endsAt!) {
      try {
        const { auth: granted } = await call(retry, 'POST', 'auth/token/renew-self', {})
        const lease = renewed(granted, started)
        Object.assign(now, lease, { span: now.span })
        // Close to the longest time that it may have, each renewal gives less: then it is better had anew.
        if (lease.endsAt === null || lease.span >= now.span / 2) return
      } catch (error) {
        if (!isRefused(error)) throw error
      }
    }
    if ('token' in auth && typeof auth.token === 'string') {
      // There is no other: it goes on while it is good.
      now.isRenewable = false
      now.renewAt = now.endsAt!
      if (clock.now() < now.endsAt!) return tell(`${source.name}: the token is not renewed any more, and ends in ${Math.round((now.endsAt! - clock.now()) / 1000)} s`)
      session = null
      source.forget()
      return wake()
    }
    const made = 'token' in auth ? await withToken(retry, auth.token) : await withLogin(retry, auth)
    leases.clear()
    session = made
    source.forget()
    wake()
  }

  async function renewLease (retry: Retry, path: string, lease: Leased): Promise<void> {
    const started = clock.now()
    if (lease.isRenewable && started < lease.endsAt!) {
      try {
        const more = renewed(await call(retry, 'PUT', 'sys/leases/renew', { lease_id: lease.id, increment: Math.round(lease.span / 1000) }), started)
        Object.assign(lease, more, { span: lease.span })
        if (more.endsAt === null || more.span >= lease.span / 2) return
      } catch (error) {
        if (!isRefused(error)) throw error
      }
    }
    leases.delete(path)
    source.forget()
    wake()
  }

  return { ...source, retry: undefined, forget: undefined } as Source
}

/** Times in Vault are seconds; zero, or none, is one that does not end. */
function leaseOf ({ lease_duration: seconds, renewable }: Granted, started: number): Lease {
  const span = typeof seconds === 'number' && seconds > 0 ? seconds * 1000 : 0
  return { endsAt: span === 0 ? null : started + span, renewAt: started + span * RENEW_AT * (0.9 + jittered(0.1)), isRenewable: renewable === true, span }
}

/** What has a time must have one after it is renewed. */
function renewed (granted: unknown, started: number): Lease {
  if (typeof (granted as Granted | undefined)?.lease_duration !== 'number') throw new SourceFault('a renewal was answered without a time')
  return leaseOf(granted as Granted, started)
}

/** It answered, and does not want to: another attempt is of no use. */
function isRefused (error: unknown): boolean {
  return error instanceof SourceFault && error.status !== undefined && !error.isPassing
}

/** The body of a refusal is not told: servers repeat what they were sent. 412: not yet on this node; 472 and 473: a standby. */
function refusal (what: string, { status, headers }: JsonResponse): SourceFault {
  const seconds = Number(headers['retry-after'])
  return new SourceFault(`${what} was answered with ${status}${status === 503 ? ': it is sealed, or under maintenance' : ''}`, {
    isPassing: status >= 500 || [412, 429, 472, 473].includes(status),
    status,
    ...seconds > 0 && { retryAfter: seconds * 1000 },
  })
}

function isDefault (auth: VaultAuth): boolean {
  return isDefaultCredential('roleId' in auth ? auth.secretId : 'token' in auth && typeof auth.token === 'string' ? auth.token : '')
}

/** In the time of a request: what reads it may wait for ever. */
async function readable (retry: Retry, what: string, read: () => string | Promise<string>): Promise<string> {
  const text = await retrying({ ...retry, attempts: 1 }, async () => read()).catch(() => '')
  if (typeof text !== 'string' || text === '') throw new SourceFault(`${what} cannot be read`)
  return text
}

function escaped (path: string): string {
  return path.split('/').map(encodeURIComponent).join('/')
}
