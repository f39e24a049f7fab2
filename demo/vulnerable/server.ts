/** Starts the twin, on loopback alone. */
import type { AddressInfo } from 'node:net'
import { buildTwin } from './app.js'
import { openTwinDatabase } from './data.js'

const { NODE_ENV, HOST, PORT = '0', DATA_DIR, DEMO_PASSWORD } = process.env
if (NODE_ENV === 'production') throw new Error('The vulnerable twin does not run in production')
if (HOST !== undefined && !['127.0.0.1', '::1', 'localhost'].includes(HOST)) throw new Error('The vulnerable twin listens on 127.0.0.1 alone: unset HOST')
if (DATA_DIR === undefined || DEMO_PASSWORD === undefined) throw new Error('The vulnerable twin is started by `npm run attack`, which gives it DATA_DIR and DEMO_PASSWORD')

const db = await openTwinDatabase(DATA_DIR, DEMO_PASSWORD)
const app = await buildTwin(db, DATA_DIR)
await app.listen({ host: '127.0.0.1', port: Number(PORT), listenTextResolver: () => 'the twin is open' })
console.log(`listening on http://127.0.0.1:${(app.server.address() as AddressInfo).port}`)
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => { app.close().then(() => db.close()).finally(() => process.exit(0)) })
