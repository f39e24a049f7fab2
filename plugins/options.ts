/**
 * Options are checked once, at registration: a wrong or misspelt one stops boot with a message that names it.
 */
import type { FastifyErrorConstructor } from '@fastify/error'
import type { Static, TSchema } from '@sinclair/typebox'
import { Value } from '@sinclair/typebox/value'

/**
 * Refuses options that do not have the form of `schema`.
 *
 * @throws Misconfigured with one line that names each wrong option, never its value: options may hold secrets.
 */
export function checkOptions<Schema extends TSchema> (
  schema: Schema, options: unknown, concern: string, Misconfigured: FastifyErrorConstructor<{ code: string }, [string]>
): asserts options is Static<Schema> {
  if (Value.Check(schema, options)) return
  const faults = [...Value.Errors(schema, options)].slice(0, 8)
    .map(({ path, message }) => `${path === '' ? 'options' : path.slice(1).replaceAll('/', '.')}: ${message.toLowerCase()}`)
  throw new Misconfigured(`${concern}: ${[...new Set(faults)].join('; ')}`)
}

const MIN_KEY_BYTES = 32

/**
 * The keys of an option that takes one or several, each of 32 bytes or more.
 *
 * @throws Misconfigured with a line that names the option
 */
export function checkKeys (keys: unknown, option: string, Misconfigured: FastifyErrorConstructor<{ code: string }, [string]>): readonly Buffer[] {
  const list = [keys].flat() as Buffer[]
  if (list.length > 0 && list.every(key => Buffer.isBuffer(key) && key.length >= MIN_KEY_BYTES)) return list
  throw new Misconfigured(`${option}: must be a Buffer of at least ${MIN_KEY_BYTES} bytes, or a list of them`)
}
