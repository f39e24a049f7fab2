/**
 * API keys: credentials of programs, made by users, cut down to scopes.
 *
 * Threat: keys that leak and are not found, are guessed, can do more than they should, outlive their owner, or are read out of the
 * database (CWE-798, CWE-916, CWE-863, CWE-613).
 * Defence: the text carries a checksum (a typo costs nothing, scanners find leaks) and a tag by a key of this service (a forged text
 * costs no look-up and spends nobody's budget); a keyed hash is kept of it, and compared in constant time. A key can do
 * what its scopes and its user's permissions both allow, at creation and at every use. Disabling, deleting, rotating it and
 * changing its user are seen at once by every process that shares state, and no request reads the store for it.
 * Not covered: a key in the wrong hands, from an address that is allowed.
 */
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { Type, type Static } from '@sinclair/typebox'
import fp from 'fastify-plugin'
import type { Permission } from '../access/index.js'
import { addressRanges } from '../address.js'
import type { Principal } from '../identity.js'
import { checkKeys, checkOptions } from '../options.js'
import { ApiKeyExceeds, ApiKeyExpired, ApiKeyRefused, ApiKeysFull, ApiKeysMisconfigured } from './errors.js'
import { keyFormat, MODES, type Mode } from './format.js'
import { keyReader } from './reader.js'
import { Records, type KeyOwner } from './records.js'
import type { ApiKeyStore, KeyFacts, StoredApiKey } from './store.js'
import { Uses } from './uses.js'

export * from './errors.js'
export { API_KEYS_TABLE, sqlApiKeys } from './store.js'
export type { ApiKeyStore, KeyFacts, StoredApiKey } from './store.js'
export type { KeyOwner } from './records.js'

declare module 'fastify' {
  interface FastifyInstance {
    apiKeys: ApiKeys
  }
}
declare module '../identity.js' {
  interface PrincipalExtras {
    /** Of keys: what the key is for. */
    keyMode?: 'live' | 'test'
  }
}

/** A key as its user sees it. */
export interface ApiKey extends KeyFacts {
  /** Where its text begins: enough to find it again, and nothing of the secret. */
  prefix: string
}

export interface NewApiKey {
  name: string
  scopes: readonly string[]
  /** Default: the first that is accepted. */
  mode?: Mode
  /** Default: never. */
  expiresAt?: Date | null
  /** Addresses and CIDR blocks; default: from everywhere. */
  allowedAddresses?: readonly string[] | null
}

/** A key together with its text, which is shown this once. */
export type IssuedApiKey = ApiKey & { text: string }

export interface ApiKeys {
  /**
   * A new key of this user.
   * @throws ApiKeyExceeds (403) for a scope that the user lacks, ApiKeyRefused (400), ApiKeysFull (409)
   */
  create: (principal: Principal, key: NewApiKey, request?: FastifyRequest) => Promise<IssuedApiKey>
  find: (id: string) => Promise<ApiKey | null>
  /** The keys of a user in the order of their ids, from the one after `after` on. */
  list: (userId: string, page?: { limit?: number, after?: string }) => Promise<ApiKey[]>
  /** Switches a key off or on; null where there is none. */
  setActive: (id: string, isActive: boolean, request?: FastifyRequest) => Promise<ApiKey | null>
  /**
   * A new text for the key; the old one is good for `overlap` seconds more (default: the option), the one before it is dead.
   * @returns null where there is none
   * @throws ApiKeyExpired (409)
   */
  rotate: (id: string, options?: { overlap?: number, request?: FastifyRequest }) => Promise<IssuedApiKey | null>
  /** True where there was one. */
  delete: (id: string, request?: FastifyRequest) => Promise<boolean>
  /** Call it after a user was switched off or on, deleted, or got other roles or another plan: their keys know at once. */
  ownerChanged: (userId: string) => Promise<void>
  /** Writes the last uses that are noted; done every `lastUsedEvery` seconds and when the service closes. */
  writeUses: () => Promise<void>
}

export const ApiKeysOptions = Type.Object({
  prefix: Type.Optional(Type.String({ pattern: '^[a-z][a-z0-9]{1,15}$', description: 'What all keys begin with: `sk` makes `sk_live_…`', default: 'sk' })),
  modes: Type.Optional(Type.Array(Type.Union([Type.Literal('live'), Type.Literal('test')]), {
    minItems: 1, uniqueItems: true, description: 'Keys that are made and accepted here', default: ['live', 'test'],
  })),
  overlap: Type.Optional(Type.Integer({ minimum: 0, description: 'Seconds that the old text of a rotated key is still good', default: 86_400 })),
  perUser: Type.Optional(Type.Integer({ minimum: 1, description: 'Keys that a user may have', default: 50 })),
  remembered: Type.Optional(Type.Integer({ minimum: 1, description: 'Records of keys remembered', default: 10_000 })),
  rememberFor: Type.Optional(Type.Integer({
    minimum: 1, maximum: 3000, description: 'Seconds after which a record is read again, for changes that were made past `app.apiKeys`; those made by it are seen at once', default: 60,
  })),
  lastUsedEvery: Type.Optional(Type.Integer({ minimum: 1, maximum: 86_400, description: 'Seconds between two writes of last uses', default: 60 })),
  deadline: Type.Optional(Type.Integer({ minimum: 1, description: 'Milliseconds that shared state may take to answer; default: that of state' })),
  whenAway: Type.Optional(Type.Union([Type.Literal('refuse'), Type.Literal('ask')], {
    description: 'Keys while shared state is away: 503, or the store is asked at every request. Nothing is changed then', default: 'refuse',
  })),
}, { additionalProperties: false })
export type ApiKeysOptions = Static<typeof ApiKeysOptions> & {
  /** 32 bytes or more, from which the keys of tag and hash are derived; of several the first makes keys, all read them. */
  secret: Buffer | readonly Buffer[]
  /** The service's own table of keys: `sqlApiKeys(sql)`, or an object of your own. */
  store: ApiKeyStore
  /** The user behind a key; null where there is none. */
  owner: (userId: string) => Promise<KeyOwner | null>
  /** Milliseconds since the epoch; for tests. */
  now?: () => number
}

const PORT = ['add', 'find', 'list', 'setActive', 'rotate', 'remove', 'used'] as const
const MAX_ADDRESSES = 100

async function apiKeys (app: FastifyInstance, options: ApiKeysOptions): Promise<void> {
  const { secret, store, owner, now = Date.now, ...plain } = options
  checkOptions(ApiKeysOptions, plain, 'api-keys', ApiKeysMisconfigured)
  const secrets = checkKeys(secret, 'api-keys: secret', ApiKeysMisconfigured)
  if (!PORT.every(name => typeof store?.[name] === 'function')) throw new ApiKeysMisconfigured(`api-keys: store: must be an object with ${PORT.join(', ')}: sqlApiKeys(sql) makes one`)
  if (typeof owner !== 'function') throw new ApiKeysMisconfigured('api-keys: owner: must be a function that answers { isActive, roles } or null')
  const { prefix = 'sk', modes = MODES, overlap = 86_400, perUser = 50, remembered = 10_000, rememberFor = 60, lastUsedEvery = 60, deadline, whenAway = 'refuse' } = plain

  const format = keyFormat(prefix, secrets)
  const state = deadline === undefined ? app.state : app.state.within(deadline)
  const records = new Records({ store, owner, state, max: remembered, maxAge: rememberFor * 1000, now })
  const uses = new Uses(store)

  app.decorate('apiKeys', { create, find, list, setActive, rotate, delete: remove, ownerChanged: userId => records.ownerChanged(userId), writeUses: () => uses.write() })
  app.identity.reader(keyReader({ format, records, uses, events: app.events, modes, whenAway, now }))
  const timer = setInterval(writeUses, lastUsedEvery * 1000).unref()
  // Twice: once before a hook of the service may close the database, and once for what was in flight then.
  app.addHook('preClose', writeUses)
  app.addHook('onClose', async function writeLastUses () {
    clearInterval(timer)
    await writeUses()
  })

  async function create (principal: Principal, wanted: NewApiKey, request: FastifyRequest | null = null): Promise<IssuedApiKey> {
    const { name, scopes, mode = modes[0]!, expiresAt = null, allowedAddresses = null } = wanted
    if (!modes.includes(mode)) throw new ApiKeyRefused(`Keys for ${mode} are not made here`)
    if (expiresAt !== null && !(expiresAt.getTime() > now())) throw new ApiKeyRefused('The key would have expired already')
    checkAddresses(allowedAddresses)
    // A key that makes keys would outlive its own end.
    if (principal.kind !== 'user' || !scopes.every(scope => app.access.can(principal, scope as Permission))) {
      app.events.record('access_denied', request, { reason: principal.kind === 'user' ? 'a scope that the user lacks' : 'a key makes no keys' })
      throw new ApiKeyExceeds()
    }
    const { text, id, hash } = format.make(mode)
    const key: StoredApiKey = {
      id,
      userId: principal.userId,
      name,
      mode,
      scopes: [...new Set(scopes)],
      allowedAddresses,
      hash,
      previousHash: null,
      previousUntil: null,
      isActive: true,
      createdAt: new Date(now()),
      expiresAt,
      lastUsedAt: null,
    }
    if (!await store.add(key, perUser)) throw new ApiKeysFull()
    app.events.record('key_created', request, { keyId: id, user: key.userId, scopes: key.scopes })
    return { ...shown(key), text }
  }

  async function find (id: string): Promise<ApiKey | null> {
    return shownIf(await store.find(id))
  }

  async function list (userId: string, { limit = 100, after }: { limit?: number, after?: string } = {}): Promise<ApiKey[]> {
    return (await store.list(userId, limit, after ?? null)).map(shown)
  }

  async function setActive (id: string, isActive: boolean, request: FastifyRequest | null = null): Promise<ApiKey | null> {
    const key = await records.change(id, () => store.setActive(id, isActive))
    if (key === null) return null
    if (isActive) app.events.record('permission_change', request, { keyId: id, user: key.userId, isActive })
    else app.events.record('key_revoked', request, { keyId: id, user: key.userId, reason: 'disabled' })
    return shown(key)
  }

  async function rotate (id: string, { overlap: seconds = overlap, request }: { overlap?: number, request?: FastifyRequest } = {}): Promise<IssuedApiKey | null> {
    const found = await store.find(id)
    if (found === null) return null
    if (found.expiresAt !== null && found.expiresAt.getTime() <= now()) throw new ApiKeyExpired()
    const { text, hash } = format.make(found.mode, id)
    const key = await records.change(id, () => store.rotate(id, hash, new Date(now() + seconds * 1000)))
    if (key === null) return null
    app.events.record('key_rotated', request ?? null, { keyId: id, user: key.userId, overlap: seconds })
    return { ...shown(key), text }
  }

  async function remove (id: string, request: FastifyRequest | null = null): Promise<boolean> {
    const wasThere = await records.change(id, () => store.remove(id))
    if (wasThere) app.events.record('key_revoked', request, { keyId: id, reason: 'deleted' })
    return wasThere
  }

  async function writeUses (): Promise<void> {
    await uses.write().catch((error: unknown) => app.log.warn({ err: error }, 'the last uses of API keys could not be written'))
  }

  /** Everything but what is kept of the secret. */
  function shown ({ hash: _hash, previousHash: _previousHash, ...facts }: StoredApiKey): ApiKey {
    return { ...facts, prefix: format.prefixOf(facts), lastUsedAt: uses.after(facts.id, facts.lastUsedAt) }
  }

  function shownIf (key: StoredApiKey | null): ApiKey | null {
    return key === null ? null : shown(key)
  }
}

function checkAddresses (addresses: readonly string[] | null): void {
  if (addresses === null) return
  if (addresses.length === 0 || addresses.length > MAX_ADDRESSES) throw new ApiKeyRefused(`Name one to ${MAX_ADDRESSES} addresses or CIDR blocks, or none at all`)
  try {
    addressRanges(addresses)
  } catch {
    throw new ApiKeyRefused('What is allowed must be addresses or CIDR blocks, and not everybody')
  }
}

export default fp(apiKeys, {
  fastify: '5.x', name: 'bastion-api-keys', dependencies: ['bastion-plan', 'bastion-events', 'bastion-state', 'bastion-identity', 'bastion-access'],
})
