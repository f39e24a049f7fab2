/** Starts the portal: settings, data directory, database, seeds, server; and ends it gracefully. */
import { randomBytes } from 'node:crypto'
import { createServer, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import { developmentCertificate } from '../plugins/certificates/index.js'
import type { LoadedSettings } from '../plugins/settings/index.js'
import { buildPortal } from './app.js'
import { openDatabase } from './data/database.js'
import { lockDirectory, secretOf } from './data/directory.js'
import { SEEDED, seed } from './data/seed.js'
import { followSettings } from './rotation.js'
import { loadPortalSettings, type PortalSettings } from './settings.js'

/** Milliseconds in which the portal must have ended: longer than its server gives to requests in flight. */
const GRACE = 15_000
/** Milliseconds before it stops listening: what was sent before the signal is read by then. */
const SETTLE = 100
/** Milliseconds between two looks at whether the development certificate is still good. */
const RENEWAL = 86_400_000

/** Closes what is open so far. */
let close = async (): Promise<void> => {}
let isEnding = false

for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => end(0))
for (const fault of ['uncaughtException', 'unhandledRejection'] as const) process.on(fault, (error: Error) => end(1, error.stack))

try {
  await start(await loadPortalSettings())
} catch (error) {
  await end(1, reasonOf(error))
}

async function start (loaded: LoadedSettings<PortalSettings>): Promise<void> {
  close = loaded.close
  const settings = loaded.values
  const { HOST, DATA_DIR, DATABASE_URL } = settings
  process.on('exit', lockDirectory(DATA_DIR))
  const tls = await filesOf(settings)
  const scheme = tls === undefined ? 'http' : 'https'
  const held = settings.PORT === 0 ? await holdPort(HOST) : null
  const port = held?.port ?? settings.PORT
  const origin = settings.PUBLIC_ORIGIN ?? `${scheme}://localhost:${port}`
  const sql = await openDatabase({ url: DATABASE_URL, directory: DATA_DIR })
  close = () => sql.close().finally(loaded.close)
  const secret = settings.APP_SECRET ?? secretOf(DATA_DIR)
  const app = await buildPortal({ settings, secret, sql, origin, tls })
  // Afterwards: what the suite writes when it closes needs the database.
  close = () => app.close().finally(() => sql.close()).finally(loaded.close)
  await app.ready()
  followSettings(app, loaded, secret)
  await seedAndTell(settings, app, sql)
  await held?.release()
  await app.listen({ host: HOST, port, listenTextResolver: () => 'the portal is open' })
  console.log(`listening on ${scheme}://${HOST.includes(':') ? `[${HOST}]` : HOST}:${port}`)
}

/** Ends the process once requests in flight are answered. A signal that comes twice counts once: npm passes on what its whole group was sent. */
async function end (code: number, reason?: string): Promise<void> {
  if (isEnding) return
  isEnding = true
  if (reason !== undefined) console.error(reason)
  setTimeout(() => process.exit(1), GRACE)
  if (reason === undefined) await new Promise(resolve => { setTimeout(resolve, SETTLE) })
  await close().catch(error => {
    console.error(reasonOf(error))
    code = 1
  })
  process.exit(code)
}

/** Of an error only what it says: drivers hang statements and connection strings beside it. */
function reasonOf (error: unknown): string {
  const { message, cause } = error as Error & { cause?: { message: string, code?: string } }
  return cause === undefined ? message : `${message} (${cause.message || cause.code})`
}

/** Seeds an empty database; in production only with a password that was asked for. */
async function seedAndTell (settings: PortalSettings, app: Awaited<ReturnType<typeof buildPortal>>, sql: Parameters<typeof seed>[0]): Promise<void> {
  const { DEMO_PASSWORD, NODE_ENV } = settings
  if (NODE_ENV === 'production' && DEMO_PASSWORD === undefined) return
  const password = DEMO_PASSWORD ?? `${randomBytes(9).toString('base64url')}-Aa1`
  const isNew = await seed(sql, app, password)
  console.table(Object.fromEntries(SEEDED.map(({ username, role, plan, isActive }) => [username, { role, plan, active: isActive }])))
  // A password that was given is not repeated; one that was made is shown this once.
  if (isNew && DEMO_PASSWORD === undefined) console.log(`password of all seeded accounts (shown this once): ${password}`)
}

/** What HTTPS is served with: files that are taken over when they change, or, by `--https`, a certificate for development, which is made anew before it runs out. */
async function filesOf ({ TLS_CERT, TLS_KEY, DATA_DIR, NODE_ENV }: PortalSettings): Promise<{ cert: string, key: string } | undefined> {
  if ((TLS_CERT === undefined) !== (TLS_KEY === undefined)) throw new Error('TLS_CERT and TLS_KEY belong together: set both')
  if (TLS_CERT !== undefined) return { cert: TLS_CERT, key: TLS_KEY! }
  if (!process.argv.includes('--https')) return undefined
  const own = { folder: join(DATA_DIR, 'tls'), production: NODE_ENV === 'production' }
  const files = await developmentCertificate(own)
  setInterval(() => { developmentCertificate(own).catch(error => { console.error(reasonOf(error)) }) }, RENEWAL).unref()
  console.log(`certificate for development: ${files.cert} (tell your browser to trust it, or curl --cacert)`)
  return files
}

/** A port that was free: the issuer and the links of the portal must know it before it listens. Nobody else can have it until it is released. */
async function holdPort (host: string): Promise<{ port: number, release: () => Promise<void> }> {
  const probe = createServer(socket => { socket.destroy() })
  await new Promise<void>((resolve, reject) => { probe.once('error', reject).listen(0, host, resolve) })
  return {
    port: (probe.address() as AddressInfo).port,
    release: () => new Promise(resolve => { probe.close(() => resolve()) }),
  }
}
