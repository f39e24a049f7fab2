/** The reader of keys: who it is from the text alone, and whether the key still stands from its record. */
import type { FastifyRequest } from 'fastify'
import type { FastifyError } from '@fastify/error'
import type { SecurityEvents } from '../events.js'
import type { CredentialReader, Principal, Reading } from '../identity.js'
import { Remembered } from '../remembered.js'
import { ApiKeyDisabled, ApiKeyForeignAddress, ApiKeyInvalid } from './errors.js'
import { isSame, type KeyFormat, type Mode, type ReadKey } from './format.js'
import type { KeyRecord, Records } from './records.js'
import type { Uses } from './uses.js'

interface ReaderParts {
  format: KeyFormat
  records: Records
  uses: Uses
  events: SecurityEvents
  modes: readonly Mode[]
  whenAway: 'refuse' | 'ask'
  now: () => number
}

/** Why a key is refused; `forGood`: nothing makes this text good again. */
interface Refusal { reason: string, error: () => FastifyError, forGood?: true }

const invalid = () => new ApiKeyInvalid()
const GONE: Refusal = { reason: 'unknown or deleted', error: invalid, forGood: true }
const REPLACED: Refusal = { reason: 'replaced by a rotation', error: invalid, forGood: true }
const EXPIRED: Refusal = { reason: 'expired', error: invalid, forGood: true }
const OWNERLESS: Refusal = { reason: 'its user is gone or inactive', error: invalid }
const DISABLED: Refusal = { reason: 'disabled', error: () => new ApiKeyDisabled() }
const FOREIGN: Refusal = { reason: 'foreign address', error: () => new ApiKeyForeignAddress() }

/** Texts that are dead, remembered by their hash. */
const DEAD = 10_000
/** Milliseconds; not for ever, because a replica of the store may learn of a new key late. */
const DEAD_MS = 60_000

export function keyReader ({ format, records, uses, events, modes, whenAway, now }: ReaderParts): CredentialReader {
  const dead = new Remembered<{ refusal: Refusal, until: number }>(DEAD)

  return { name: 'key', takesBearer: format.isKey, read }

  function read (request: FastifyRequest): Reading {
    const header = request.headers['x-api-key'] as string | undefined
    const bearer = bearerKeyOf(request)
    if (header === undefined && bearer === null) return null
    if (header !== undefined && (header.includes(',') || (bearer !== null && bearer !== header))) return 'several'
    const given = format.read(header ?? bearer!)
    if (typeof given === 'string') return { failure: refused(request, { reason: given, error: invalid }) }
    if (!modes.includes(given.mode)) return { failure: refused(request, { reason: `keys for ${given.mode} are not accepted here`, error: invalid }) }
    // A text that was replaced names a key that lives: it must not go on spending that one's budget.
    const death = dead.get(given.hash)
    if (death !== undefined && death.until > now()) return { failure: refused(request, death.refusal, given.id) }

    const principal = principalOf(given, records.last(given.id))
    const record = records.current(given.id)
    if (!(record instanceof Promise)) return { principal, standing: judge(request, given, principal, record) }
    const known = whenAway === 'refuse' ? record : record.catch((error: FastifyError) => readWithoutState(error, given.id))
    return { principal, standing: known.then(found => judge(request, given, principal, found)) }
  }

  function bearerKeyOf ({ headers: { authorization = '' } }: FastifyRequest): string | null {
    if (authorization.slice(0, 7).toLowerCase() !== 'bearer ') return null
    const text = authorization.slice(7)
    return format.isKey(text) ? text : null
  }

  function readWithoutState (error: FastifyError, id: string): Promise<KeyRecord | null> {
    if (error.code !== 'FST_BASTION_STATE_UNAVAILABLE') throw error
    return records.read(id)
  }

  /** The failure, or null and a principal that says what the key may do. */
  function judge (request: FastifyRequest, given: ReadKey, principal: Principal, record: KeyRecord | null): FastifyError | null {
    const refusal = faultOf(given, record, request.ip, now())
    if (refusal !== null) {
      if (refusal.forGood === true) dead.set(given.hash, { refusal, until: now() + DEAD_MS })
      return refused(request, refusal, given.id, record?.key.userId)
    }
    const { key, owner } = record!
    const { roles, plan } = owner!
    Object.assign(principal, { userId: key.userId, roles, scopes: key.scopes, plan })
    uses.note(key.id, now())
    return null
  }

  function refused (request: FastifyRequest, { reason, error }: Refusal, keyId?: string, user?: string): FastifyError {
    events.record('key_refused', request, { reason, ...keyId !== undefined && { keyId }, ...user !== undefined && { user } })
    return error()
  }
}

/** Until its record is known it has no roles and no scopes: it may do nothing. */
function principalOf ({ id, mode }: ReadKey, last: KeyRecord | undefined): Principal {
  const plan = last?.owner?.plan
  return {
    kind: 'key',
    id,
    userId: last?.key.userId ?? '',
    roles: [],
    scopes: [],
    ...plan !== undefined && { plan },
    via: 'key',
    authTime: 0, // no person proves themselves by a key
    credentialId: id,
    keyMode: mode,
  }
}

/** What only the holder of the right text may learn comes after the comparison. */
function faultOf (given: ReadKey, record: KeyRecord | null, address: string, time: number): Refusal | null {
  if (record === null) return GONE
  const { key, owner, isAllowedFrom } = record
  const { previousHash, previousUntil, expiresAt } = key
  const isPrevious = previousHash !== null && previousUntil !== null && time < previousUntil.getTime() && isSame(given.hash, previousHash)
  if (!isPrevious && !isSame(given.hash, key.hash)) return REPLACED
  if (expiresAt !== null && time >= expiresAt.getTime()) return EXPIRED
  if (owner === null || !owner.isActive) return OWNERLESS
  if (!key.isActive) return DISABLED
  return isAllowedFrom !== null && !isAllowedFrom(address) ? FOREIGN : null
}
