/**
 * The portal's vulnerable twin: the same routes as a hurried team writes them, one flaw a file in `flaws/`. It is there to be attacked, from this machine alone: it
 * listens on loopback, answers the range alone that started it (guard.ts), refuses production, and is not in the package.
 */
import { readdir } from 'node:fs/promises'
import Fastify, { type FastifyInstance, type FastifyRequest, type FastifyServerFactory } from 'fastify'
import type { PGlite } from '@electric-sql/pglite'
import type { User } from './data.js'

const FLAWS = new URL('./flaws/', import.meta.url)

export interface Twin {
  app: FastifyInstance
  db: PGlite
  /** Of the data and the uploads. */
  directory: string
  /** Each says who asks, or null where it finds nothing that it knows. The first that knows is believed. */
  readers: ((request: FastifyRequest) => User | null | Promise<User | null>)[]
  /** Who asks. Nobody: 401. */
  userOf: (request: FastifyRequest) => Promise<User>
  userById: (id: unknown) => Promise<User | null>
}

/** `serverFactory`: of its server, where it listens: see guard.ts. */
export async function buildTwin (db: PGlite, directory: string, serverFactory?: FastifyServerFactory): Promise<FastifyInstance> {
  const app = Fastify({ ...serverFactory !== undefined && { serverFactory }, logger: { level: 'info' }, bodyLimit: 512 * 1024 * 1024, ajv: { customOptions: { removeAdditional: false } } })
  const readers: Twin['readers'] = []
  const twin: Twin = {
    app,
    db,
    directory,
    readers,
    async userOf (request) {
      for (const read of readers) {
        const user = await read(request)
        if (user !== null) return user
      }
      throw Object.assign(new Error('Sign in first'), { statusCode: 401 })
    },
    async userById (id) {
      const { rows: [user] } = await db.query<User>('select * from users where id = $1', [Number(id)])
      return user ?? null
    },
  }
  // What a flaw exports and does not add by itself is used by others.
  for (const file of (await readdir(FLAWS)).sort()) await (await import(new URL(file, FLAWS).href)).default?.(twin)
  app.get('/health', async () => ({ status: 'ok' }))
  return app
}
