/**
 * Encryption: fields that are unreadable in the database, each bound to its place.
 *
 * Threat: whoever reads the database, its backups or its replicas reads health records and identity numbers (CWE-311, CWE-312); whoever may write to it moves a value to another row, where he may read it (CWE-345);
 * a nonce that comes twice breaks GCM (CWE-323); keys that are never changed (CWE-324).
 * Defence: AES-256-GCM with a key of its own for each message (XAES-256-GCM, see xaes.ts); table, column and row are additional data; a key ring with ids, rotation without a restart, {@link reencrypt} for what is
 * stored; blind indexes for equality search; a failure is one error whatever its cause, and an event. An answer does not hold an encrypted field unless it says who sees it, and not while it is encrypted.
 * Not covered: who has the keys or the process; the length of a value; which rows are equal where there is a blind index; a value that is put back where it stood before (its old envelope is good there), and a row
 * that is deleted. GCM does not commit to its key: the id of the key is in the envelope, and nothing is tried with another.
 * Sources: NIST SP 800-38D (8.2, 8.3), C2SP XAES-256-GCM, OWASP ASVS 5.0 (11.2.2, 11.3.2, 11.3.4, 13.3.1, 14.2.4), PCI DSS 3.5 and 3.6.
 */
import { randomBytes } from 'node:crypto'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { Type, type Static } from '@sinclair/typebox'
import fp from 'fastify-plugin'
import { checkOptions } from '../options.js'
import type { Contribution, PlannedRoute } from '../plan/index.js'
import { holdsSealed, markedFields } from './answers.js'
import { blindIndexes, type BlindIndexes, type IndexOptions } from './blind-index.js'
import type { Cipher } from './contract.js'
import { boundTo, checkText, FORM, readEnvelope, writeEnvelope, type Place } from './envelope.js'
import { CipherExhausted, CipherMisconfigured, DecryptionFailed, SealedAnswer } from './errors.js'
import { refuseReused, settleKeys, type Kms, type RingKey, type SettledKey } from './ring.js'
import { openFields, sealFields } from './rows.js'
import { NONCE_BYTES, xaes, type Xaes } from './xaes.js'

export * from './errors.js'
export { newDataKey } from './ring.js'
export { encryptedColumns } from './rows.js'
export { reencrypt } from './reencrypt.js'
export type { ColumnIndex, IndexOptions } from './blind-index.js'
export type { Cipher, OpenedRow, SealedRow } from './contract.js'
export type { ColumnPlace, Place, RowPlace } from './envelope.js'
export type { Kms, KmsContext, RingKey } from './ring.js'
export type { ReencryptOptions, ReencryptProgress, ReencryptReport } from './reencrypt.js'
export type { EncryptedColumn } from './rows.js'

declare module 'fastify' {
  interface FastifyInstance {
    /** Encrypts and decrypts fields. */
    cipher: Cipher
  }
}

export const CipherOptions = Type.Object({
  maxMessages: Type.Optional(Type.Integer({
    minimum: 1,
    maximum: 2 ** 48,
    default: 2 ** 32,
    description: 'Values that one key encrypts in one process at most; then it refuses. The nonces are good for 2^80 in all, so that this many are not too many in 2^48 processes and restarts',
  })),
  kmsDeadline: Type.Optional(Type.Integer({ minimum: 1, maximum: 60_000, default: 5000, description: 'Milliseconds that the KMS may take to unwrap a key' })),
}, { additionalProperties: false })
export type CipherOptions = Static<typeof CipherOptions> & {
  /** The first encrypts, all decrypt. Each has 32 bytes or more, or is a data key that `newDataKey` made. */
  keys: readonly RingKey[]
  /** Blind indexes, with keys of their own: a change of these rewrites every index. */
  index?: IndexOptions
  /** Unwraps data keys, once at boot and at a rotation. */
  kms?: Kms
}

/** A key at work. */
interface Worker extends SettledKey {
  aead: Xaes
  used: Usage
}

/** How many values a key has encrypted. */
interface Usage { messages: number }

async function cipher (app: FastifyInstance, options: CipherOptions): Promise<void> {
  const { keys, index: indexOptions, kms, ...plain } = options
  checkOptions(CipherOptions, plain, 'encryption', CipherMisconfigured)
  const { maxMessages = 2 ** 32, kmsDeadline = 5000 } = plain
  if (kms !== undefined && typeof kms.unwrap !== 'function') throw new CipherMisconfigured('encryption: kms: must be an object with unwrap')
  const settle = (given: unknown) => settleKeys(given, 'encryption: keys', 'cipher:values', kms, kmsDeadline)
  const settleIndex = (given: unknown) => settleKeys(given, 'encryption: index.keys', 'cipher:indexes', kms, kmsDeadline)

  /** Also of keys that are in the ring no more: they may come back. */
  const usages = new Map<string, Usage>()
  let ring = (await settle(keys)).map(startWork)
  let rotating: Promise<unknown> = Promise.resolve()
  const blind = blindIndexes(indexOptions, indexOptions === undefined ? [] : await settleIndex(indexOptions.keys))

  function encrypt (text: string, place: Place): string {
    checkText(text)
    const key = ring[0]!
    const additional = boundTo(key.id, place)
    const { messages } = key.used
    if (messages >= maxMessages) {
      app.events.record('encryption_exhausted', null, { key: key.id, messages })
      throw new CipherExhausted()
    }
    key.used.messages++
    const nonce = randomBytes(NONCE_BYTES)
    return writeEnvelope(key.id, nonce, key.aead.seal(nonce, text, additional))
  }

  function decrypt (envelope: string, place: Place, request?: FastifyRequest): string {
    const read = readEnvelope(envelope)
    // A place that is none is a mistake of the caller, whatever the value is.
    const additional = boundTo(read?.keyId ?? '', place)
    if (read === null) return fail(place, 'it is no envelope', request)
    const key = ring.find(({ id }) => id === read.keyId)
    if (key === undefined) return fail(place, `its key ${read.keyId} is not in the ring`, request)
    let bytes: Buffer
    try {
      bytes = key.aead.open(read.nonce, read.sealed, additional)
    } catch {
      return fail(place, 'it was changed, or encrypted for another place', request)
    }
    return bytes.toString('utf8')
  }

  /** Everybody is told the same; what it was stands in the event, which is for the operator. */
  function fail ({ table, column, row }: Place, reason: string, request?: FastifyRequest): never {
    app.events.record('decryption_failed', request ?? null, { table, column, row: String(row), reason })
    throw new DecryptionFailed()
  }

  function indexed (): BlindIndexes {
    if (blind === null) throw new CipherMisconfigured('encryption: index: its keys are missing, and there is no blind index without them')
    return blind
  }

  const made: Cipher = {
    encrypt,
    decrypt,
    isStale: envelope => readEnvelope(envelope)?.keyId !== ring[0]!.id,
    index: (text, place) => indexed().index(text, place),
    indexes: (text, place) => indexed().indexes(text, place),
    isIndexStale: (index, place) => indexed().isIndexStale(index, place),
    sealRow: (schema, place, row) => sealFields(made, schema, place, row) as never,
    openRow: (schema, place, row, request) => openFields(decrypt, broken => fail(broken, 'it is not of the form of its schema', request), schema, place, row, request) as never,
    rotate (next, nextIndex) {
      // One after the other, as they were asked for: a KMS may answer the older one later.
      const rotated = rotating.then(() => replaceKeys(next, nextIndex))
      rotating = rotated.catch(() => {})
      return rotated
    },
    usage: () => ring.map(({ id, used: { messages } }) => ({ id, messages })),
    current: place => ({ envelope: `${FORM}.${ring[0]!.id}.`, index: place === undefined ? null : indexed().form(place) }),
  }
  app.decorate('cipher', made)
  app.plan.contribute({ concern: 'encryption', stage: 'expose', compile: guardAnswer })

  async function replaceKeys (next: readonly RingKey[], nextIndex: readonly RingKey[] | undefined): Promise<void> {
    const settled = await settle(next)
    const settledIndex = nextIndex === undefined ? null : await settleIndex(nextIndex)
    refuseReused(ring, settled, 'encryption: keys')
    if (settledIndex !== null) indexed().replace(settledIndex)
    const before = ring
    ring = settled.map(key => before.find(({ id }) => id === key.id) ?? startWork(key))
    app.events.record('encryption_rotated', null, { keys: ring.map(({ id }) => id), ...blind !== null && { indexKeys: blind.keys().map(({ id }) => id) } })
  }

  function startWork (key: SettledKey): Worker {
    const used = usages.get(key.id) ?? { messages: 0 }
    usages.set(key.id, used)
    return { ...key, aead: xaes(key.bytes), used }
  }

  function guardAnswer (route: PlannedRoute): Contribution | undefined {
    const responses = (route.options.schema as { response?: Record<string, unknown> } | undefined)?.response ?? {}
    const all = Object.entries(responses).flatMap(([status, schema]) => schemasOf(schema)
      .flatMap(part => markedFields(part, route.instance.getSchemas()).map(field => ({ status, ...field }))))
    if (all.length === 0) return undefined
    for (const { status, path, isGuarded } of all) {
      if (!isGuarded) route.object(`its ${status}: /${path.join('/')} is encrypted where it is kept: say who sees it with visibleTo`)
    }
    if (!app.hasPlugin('bastion-exposure')) route.object('it answers encrypted fields, and needs the exposure plugin, which knows who sees them')
    const paths = all.map(({ path }) => path)
    return {
      step (request, reply, payload) {
        // Nothing is parsed where no envelope can be.
        if (typeof payload !== 'string' || !payload.includes(`"${FORM}.`) || !holdsSealed(payload, paths)) return
        app.events.record('undeclared_answer', request, { status: reply.statusCode, kind: 'sealed' })
        reply.serializer(null as never)
        throw new SealedAnswer()
      },
      promise: { fields: [...new Set(all.map(({ path }) => `/${path.join('/')}`))] },
    }
  }
}

/** The schemas of one status: one a media type where it distinguishes them. */
function schemasOf (response: unknown): unknown[] {
  const content = (response as { content?: Record<string, { schema?: unknown }> } | null)?.content
  return content === undefined ? [response] : Object.values(content).map(({ schema }) => schema)
}

export default fp(cipher, { fastify: '5.x', name: 'bastion-cipher', dependencies: ['bastion-plan', 'bastion-events'] })
