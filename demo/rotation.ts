/** Keys that change while the portal runs: because a source of settings has others, or because somebody says so with SIGHUP. Nobody is signed out, and what is not good changes nothing. */
import type { FastifyInstance } from 'fastify'
import type { LoadedSettings } from '../plugins/settings/index.js'
import { isPath, makeKeys } from './keys.js'
import type { PortalSettings } from './settings.js'

/** @param secret the master secret, which is the same until the next start */
export function followSettings (app: FastifyInstance, loaded: LoadedSettings<PortalSettings>, secret: string): void {
  const { JWT_ALGORITHM, JWT_KEYS } = loaded.values

  async function rotate (settings: PortalSettings, changed: readonly string[]): Promise<void> {
    try {
      const keys = makeKeys(secret, { JWT_ALGORITHM, JWT_KEYS: settings.JWT_KEYS, ENCRYPTION_VERSION: settings.ENCRYPTION_VERSION })
      if (changed.includes('JWT_KEYS') && JWT_ALGORITHM !== 'HS256') await app.tokens.rotate(keys.tokens)
      if (changed.includes('ENCRYPTION_VERSION')) await app.cipher.rotate(keys.encryption, keys.indexes)
    } catch (error) {
      app.log.error({ reason: (error as Error).message }, `the keys of ${changed.join(' and ')} were not taken over`)
      throw error
    }
  }

  loaded.onChange(['JWT_KEYS', 'ENCRYPTION_VERSION'], rotate)
  loaded.onChange(['APP_SECRET', 'DATABASE_URL', 'REDIS_URL'], (_settings, changed) => { app.log.warn(`${changed.join(', ')} changed: it is used from the next start`) })
  // What a listener says of itself stands in the log already.
  loaded.onFault(({ kind, message }) => { if (kind !== 'listener') app.log.error({ kind }, message) })

  // A service is told so; who closes a terminal wants the portal to end.
  if (JWT_KEYS !== undefined || !process.stdout.isTTY) process.on('SIGHUP', () => { again().catch(() => {}) })

  async function again (): Promise<void> {
    const changed = await loaded.refresh()
    const { values } = loaded
    // Behind a path that is the same there may be another file.
    if (isPath(values.JWT_KEYS) && !changed.includes('JWT_KEYS')) await rotate(values, ['JWT_KEYS'])
  }
}
