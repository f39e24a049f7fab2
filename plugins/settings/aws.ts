/**
 * AWS Secrets Manager, by the official SDK (`@aws-sdk/client-secrets-manager`, an optional package that is loaded when it is used).
 *
 * The SDK finds credentials as it always does: environment, profile, container, instance. Attempts, their time and what is told of them are ours: its own errors hold requests and answers.
 */
import { Type, type Static } from '@sinclair/typebox'
import { checkOptions } from '../options.js'
import type { Clock } from './clock.js'
import { SettingsRefused, SourceFault } from './errors.js'
import { remote, REMOTE_OPTIONS, retrying, type Retry } from './remote.js'
import { isPrivateEnough } from './request.js'
import type { Source } from './source.js'
import { textsOf } from './texts.js'

const Id = Type.String({ minLength: 1, maxLength: 2048, pattern: '^[\\w/+=.@:!-]+$' })
const Version = {
  stage: Type.Optional(Type.String({ minLength: 1, maxLength: 256, default: 'AWSCURRENT' })),
  versionId: Type.Optional(Type.String({ minLength: 32, maxLength: 64 })),
}
export const AwsSecret = Type.Union([
  Type.Object({ id: Id, ...Version, fields: Type.Optional(Type.Record(Type.String(), Type.String({ minLength: 1 }))) }, { additionalProperties: false }),
  Type.Object({ id: Id, ...Version, name: Type.String({ minLength: 1 }) }, { additionalProperties: false }),
])
/**
 * A secret by its name or ARN: of JSON, whose fields are named as the variables are (or as `fields` says); or of a plain text, or bytes
 * (as base64), that are the variable `name`. `stage` is `AWSCURRENT` unless it is said.
 */
export type AwsSecret = Static<typeof AwsSecret>

export const AwsOptions = Type.Object({
  secrets: Type.Array(AwsSecret, {
    minItems: 1,
    description: 'What is read, each `{ id, stage?, versionId?, fields? }` of JSON or `{ id, stage?, versionId?, name }`; the first that has a variable wins',
  }),
  region: Type.Optional(Type.String({ pattern: '^[a-z0-9-]{1,32}$', description: 'By default that of the environment or the profile' })),
  endpoint: Type.Optional(Type.String({ pattern: '^https?://[^/?#@]+/?$', description: 'Of a private endpoint' })),
  ca: Type.Optional(Type.String({ pattern: '-----BEGIN CERTIFICATE-----', description: 'Certificates that are trusted instead of the system\'s own (PEM)' })),
  ...REMOTE_OPTIONS,
}, { additionalProperties: false })

export type AwsOptions = Static<typeof AwsOptions> & {
  /** As the SDK takes them. Default: what it finds. */
  credentials?: AwsCredentials | (() => Promise<AwsCredentials>)
  /** For tests. */
  clock?: Clock
}

export interface AwsCredentials { accessKeyId: string, secretAccessKey: string, sessionToken?: string, expiration?: Date }

interface Client {
  send: (command: unknown, options: { abortSignal: AbortSignal }) => Promise<{ SecretString?: string, SecretBinary?: Uint8Array }>
  destroy: () => void
}

/** What it answers with 400 where it has too much to do. */
const THROTTLED = /^(?:Throttl|TooManyRequests|RequestLimitExceeded|LimitExceeded|SlowDown|PriorRequestNotComplete|RequestThrottled)/
/** Names of its errors, and nothing else of them, are told. */
const NAME = /^[A-Za-z]{1,64}$/

/** @throws SettingsRefused where its options are wrong */
export function aws (options: AwsOptions): Source {
  const { credentials, clock, ...plain } = options
  checkOptions(AwsOptions, plain, 'settings: aws', SettingsRefused)
  const { secrets, region, endpoint, ca } = plain
  if (endpoint !== undefined && !(URL.canParse(endpoint) && isPrivateEnough(new URL(endpoint)))) throw new SettingsRefused('settings: aws: endpoint: must begin with https://; http is for this machine alone')
  let client: Client | null = null

  const { retry: _retry, forget: _forget, ...source } = remote({
    name: 'AWS Secrets Manager',
    options: { ...plain, clock },
    async fetch (retry) {
      const texts = {}
      for (const secret of secrets.toReversed()) Object.assign(texts, await read(retry, secret))
      return { texts }
    },
    async close () {
      client?.destroy()
      client = null
    },
  })

  async function read (retry: Retry, secret: AwsSecret): Promise<Record<string, string>> {
    const { GetSecretValueCommand, SecretsManagerClient } = await sdk()
    client ??= new SecretsManagerClient({
      region,
      endpoint,
      credentials,
      maxAttempts: 1,
      requestHandler: { connectionTimeout: retry.timeout, requestTimeout: retry.timeout, httpsAgent: { ca, rejectUnauthorized: true, minVersion: 'TLSv1.2' } },
    }) as unknown as Client
    const { id, stage, versionId } = secret
    const answer = await retrying(retry, async abortSignal => {
      try {
        return await client!.send(new GetSecretValueCommand({ SecretId: id, VersionId: versionId, VersionStage: versionId === undefined ? stage ?? 'AWSCURRENT' : stage }), { abortSignal })
      } catch (error) {
        throw faultOfSdk(error, id)
      }
    })
    const text = answer.SecretString ?? (answer.SecretBinary === undefined ? undefined : Buffer.from(answer.SecretBinary).toString('base64'))
    if (text === undefined) throw new SourceFault(`${id} is empty`)
    return 'name' in secret ? { [secret.name]: text } : textsOf(parsed(text), id, secret.fields)
  }

  return source
}

async function sdk (): Promise<typeof import('@aws-sdk/client-secrets-manager')> {
  try {
    return await import('@aws-sdk/client-secrets-manager')
  } catch {
    throw new SourceFault('the package @aws-sdk/client-secrets-manager is not installed: npm install @aws-sdk/client-secrets-manager')
  }
}

/** Of an error of the SDK its name and status; its message may hold an ARN, a part of an answer or of a credential. */
function faultOfSdk (error: unknown, id: string): unknown {
  const { name, $metadata } = error as { name?: unknown, $metadata?: { httpStatusCode?: number } }
  const status = $metadata?.httpStatusCode
  const told = typeof name === 'string' && NAME.test(name) ? name : 'an error'
  if (status !== undefined) return new SourceFault(`${id} was answered with ${status} (${told})`, { isPassing: status >= 500 || status === 429 || THROTTLED.test(told), status })
  // It knows no credentials or no region: they may still come, from the machine that it runs on.
  return told === 'CredentialsProviderError' ? new SourceFault('no credentials were found', { isPassing: true }) : error
}

/** Undefined where it is no JSON: a message of the parser would hold a part. */
function parsed (text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
