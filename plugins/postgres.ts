/**
 * PostgreSQL by URL: what `pg` is given, so that TLS is what the URL says, and verified.
 *
 * Threat: `sslmode=require` that encrypts to whoever answers, `prefer` that falls back in silence (CWE-295, CWE-757).
 * Defence: every mode that asks for TLS verifies chain and host name, `require` and `verify-ca` too. `no-verify` is for development,
 * modes that may end in clear are refused, and production is warned of a plain connection to another host.
 * Not covered: what the server lets in: `hostssl` in its pg_hba.conf refuses what is plain.
 */
import { readFileSync } from 'node:fs'
import type { ConnectionOptions } from 'node:tls'
import { createError } from '@fastify/error'
import { authoritiesOf, isLocalHost, type Peer } from './peers.js'
import { isProduction } from './production.js'

/** The URL of a database cannot be read, or asks for what is not safe; nothing of the URL is in the message. */
export const PostgresMisconfigured = createError<[string]>('FST_BASTION_POSTGRES_MISCONFIGURED', '%s', 500, TypeError)

/** What a `pg` pool or client is made with, and what is told of it. */
export interface PostgresConnection {
  options: { connectionString: string, ssl: ConnectionOptions | false, sslnegotiation?: 'direct' }
  peer: Peer
}

const VERIFIED = ['require', 'verify-ca', 'verify-full']
/** What `pg` would read out of the URL, and by it overrule what is settled here. */
const OURS = ['ssl', 'sslmode', 'sslrootcert', 'sslcert', 'sslkey', 'sslnegotiation', 'uselibpqcompat']

/**
 * Reads `postgres://user:password@host/database?sslmode=verify-full&sslrootcert=/etc/ssl/ca.pem`. Without `sslrootcert` (or with
 * `sslrootcert=system`) the authorities are those of Node, and of `NODE_EXTRA_CA_CERTS`. `sslcert` and `sslkey` are a client's certificate.
 *
 * @param name what it is for, as log and posture name it (default `database`)
 * @throws PostgresMisconfigured
 */
export function postgresConnection (url: string, name = 'database'): PostgresConnection {
  if (!/^postgres(?:ql)?:\/\//.test(url) || !URL.canParse(url)) throw new PostgresMisconfigured('the URL of the database cannot be read: percent-encode the password')
  const parsed = new URL(url)
  const { searchParams: query } = parsed
  refuseUnclear([...query.keys()])
  const [asked, mode, authority, cert, key] = ['ssl', 'sslmode', 'sslrootcert', 'sslcert', 'sslkey'].map(parameter => query.get(parameter))
  // As pg reads it.
  const host = query.get('host') || hostnameOf(parsed) || process.env.PGHOST || ''
  const isSilent = [asked, mode, authority, cert, key].every(value => value === null)
  const tls = wayOf(asked ?? null, (isSilent ? process.env.PGSSLMODE || null : mode) ?? null, [authority, cert, key].some(file => file !== null))
  const isDirect = query.get('sslnegotiation') === 'direct'
  if (isDirect && tls === 'none') throw new PostgresMisconfigured('sslnegotiation of the database URL: direct needs sslmode=verify-full')
  for (const parameter of OURS) query.delete(parameter)
  const ssl = tls !== 'none' && { rejectUnauthorized: tls === 'verified', minVersion: 'TLSv1.2' as const, ...filesOf({ authority, cert, key }) }
  return {
    options: { connectionString: parsed.href, ssl, ...(isDirect && { sslnegotiation: 'direct' as const }) },
    peer: { name, host, isLocal: host === '' || isLocalHost(host), tls },
  }
}

/** Of two `pg` takes the last, others the first; one in another case is none to it. Whoever writes either meant what would then not be so. */
function refuseUnclear (names: readonly string[]): void {
  const unclear = [...OURS, 'host'].find(known => {
    const written = names.filter(name => name.toLowerCase() === known)
    return written.length > 1 || (written.length === 1 && written[0] !== known)
  })
  if (unclear !== undefined) throw new PostgresMisconfigured(`${unclear} of the database URL: write it once, in lower case`)
}

function hostnameOf ({ hostname }: URL): string {
  try {
    return decodeURIComponent(hostname).replace(/^\[(.*)\]$/, '$1')
  } catch {
    throw new PostgresMisconfigured('the host in the URL of the database cannot be read')
  }
}

function wayOf (ssl: string | null, mode: string | null, hasFiles: boolean): Peer['tls'] {
  if (mode === null) {
    if (ssl !== null && !['true', '1', 'false', '0'].includes(ssl)) throw new PostgresMisconfigured('ssl of the database URL: write sslmode=verify-full or sslmode=disable')
    return ssl === 'true' || ssl === '1' || hasFiles ? 'verified' : 'none'
  }
  if (mode === 'disable') return 'none'
  if (VERIFIED.includes(mode)) return 'verified'
  if (mode !== 'no-verify') throw new PostgresMisconfigured('sslmode of the database URL: write verify-full or disable: others may end in clear')
  if (isProduction()) throw new PostgresMisconfigured('sslmode of the database URL: no-verify is for development: write verify-full, and name the authority by sslrootcert')
  return 'unverified'
}

function filesOf ({ authority, cert, key }: Record<'authority' | 'cert' | 'key', string | null | undefined>): ConnectionOptions {
  try {
    return {
      ...(typeof authority === 'string' && authority !== 'system' && { ca: authoritiesOf(authority) }),
      ...(typeof cert === 'string' && { cert: readFileSync(cert, 'utf8') }),
      ...(typeof key === 'string' && { key: readFileSync(key, 'utf8') }),
    }
  } catch (error) {
    throw new PostgresMisconfigured(`the database URL: ${(error as Error).message}`)
  }
}
