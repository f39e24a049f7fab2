/** Starts the twin, on loopback alone, for who has its key. */
import type { AddressInfo } from 'node:net'
import { buildTwin } from './app.js'
import { openTwinDatabase } from './data.js'
import { serverFor } from './guard.js'

const { NODE_ENV, HOST, PORT = '0', DATA_DIR, DEMO_PASSWORD, RANGE_KEY } = process.env
if (NODE_ENV === 'production') throw new Error('The vulnerable twin does not run in production')
if (HOST !== undefined && !['127.0.0.1', '::1', 'localhost'].includes(HOST)) throw new Error('The vulnerable twin listens on 127.0.0.1 alone: unset HOST')
if (DATA_DIR === undefined || DEMO_PASSWORD === undefined) throw new Error('The vulnerable twin is started by `npm run attack`, which gives it DATA_DIR and DEMO_PASSWORD')
if (RANGE_KEY === undefined || RANGE_KEY.length < 32) throw new Error('The vulnerable twin answers nobody without a key: RANGE_KEY, of 32 characters at least')
// It shows its environment to whoever asks.
delete process.env.RANGE_KEY

const db = await openTwinDatabase(DATA_DIR, DEMO_PASSWORD)
const app = await buildTwin(db, DATA_DIR, serverFor(RANGE_KEY))
await app.listen({ host: '127.0.0.1', port: Number(PORT), listenTextResolver: () => 'the twin is open' })
console.log(`listening on http://127.0.0.1:${(app.server.address() as AddressInfo).port}`)
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => { app.close().then(() => db.close()).finally(() => process.exit(0)) })
