/** An application out of a module, ready and not listening. */
import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { FastifyInstance } from 'fastify'

/** Where it is looked for, in this order. */
const NAMES = ['default', 'app', 'build', 'buildApp'] as const
/** Milliseconds until it must be there: what it waits for may be away for ever. */
const PATIENCE_MS = 60_000

/**
 * Loads a module that exports an application: the instance, a promise of it, or a function that makes it, as `default`, `app`, `build` or `buildApp`.
 * Whoever calls it closes it.
 *
 * @param path seen from the working folder
 * @throws Error that says what the module lacks, or why it does not start
 */
export async function loadApp (path: string, patience = PATIENCE_MS): Promise<FastifyInstance> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_resolve, reject) => { timer = setTimeout(() => { reject(new Error(`is not ready after ${patience / 1000} s: does it wait for something that is away?`)) }, patience) })
  try {
    return await Promise.race([ready(resolve(path)), late])
  } catch (error) {
    throw new Error(`${path}: ${(error as Error | undefined)?.message ?? String(error)}`, { cause: error })
  } finally {
    clearTimeout(timer)
  }
}

async function ready (file: string): Promise<FastifyInstance> {
  if (!existsSync(file)) throw new Error('there is no such file')
  const module = await load(file)
  const app = await appOf(module) ?? await appOf((module as { default?: unknown }).default)
  if (app === null) throw new Error(`exports no application: export the Fastify instance, or a function that returns it, as default, ${NAMES.slice(1).join(', ')}`)
  try {
    if (!app.server.listening) await app.ready()
    if (app.server.listening) throw new Error('listens by itself: export the application from a module that does not call listen(), and listen in another one')
    return app
  } catch (error) {
    await app.close().catch(() => {})
    throw error
  }
}

async function load (file: string): Promise<unknown> {
  try {
    return await import(pathToFileURL(file).href)
  } catch (error) {
    if ((error as { code?: string }).code !== 'ERR_UNKNOWN_FILE_EXTENSION') throw error
    throw new Error('this Node does not run TypeScript by itself: name the built file, or run with NODE_OPTIONS="--import tsx"')
  }
}

async function appOf (module: unknown): Promise<FastifyInstance | null> {
  if (module === null || (typeof module !== 'object' && typeof module !== 'function')) return null
  if (isApp(module)) return module
  for (const name of NAMES) {
    const exported = await (module as Record<string, unknown>)[name]
    if (isApp(exported)) return exported
    if (typeof exported !== 'function') continue
    if (exported.length > 1) throw new Error(`its export ${name} takes ${exported.length} arguments, as plugins do: export a function that makes the application by itself`)
    const made = await (exported as () => unknown)()
    if (isApp(made)) return made
  }
  return null
}

function isApp (value: unknown): value is FastifyInstance {
  const { ready, inject } = (value ?? {}) as { ready?: unknown, inject?: unknown }
  return typeof ready === 'function' && typeof inject === 'function'
}
