/**
 * Options are checked once, at registration: a wrong or misspelt one stops boot with a message that names it.
 */
import type { FastifyErrorConstructor } from '@fastify/error'
import type { Static, TSchema } from '@sinclair/typebox'
import { Value, ValueErrorType, type ValueError } from '@sinclair/typebox/value'

/**
 * Refuses options that do not have the form of `schema`.
 *
 * @throws Misconfigured with one line that names each wrong option, never its value: options may hold secrets.
 */
export function checkOptions<Schema extends TSchema> (
  schema: Schema, options: unknown, concern: string, Misconfigured: FastifyErrorConstructor<{ code: string }, [string]>
): asserts options is Static<Schema> {
  if (Value.Check(schema, options)) return
  const faults = [...faultsOf(Value.Errors(schema, options))].slice(0, 8).map(({ path, message }) => `${nameOf(path)}: ${message}`)
  throw new Misconfigured(`${concern}: ${[...new Set(faults)].join('; ')}`)
}

interface Fault { path: string, message: string }

function * faultsOf (errors: Iterable<ValueError>): Generator<Fault> {
  for (const { type, path, message, schema, errors: ofVariants } of errors) {
    if (type === ValueErrorType.ObjectAdditionalProperties) yield { path, message: ['unexpected property', ...Object.keys((schema.properties ?? {}) as object)].join(', ').replace(', ', ': known are ') }
    else if (type !== ValueErrorType.Union) yield { path, message: message.toLowerCase() }
    else {
      // Which one was meant is seen by how far it agrees.
      const depth = (faults: readonly Fault[]) => Math.max(...faults.map(fault => fault.path.length))
      const [meant] = ofVariants.map(each => [...faultsOf(each)]).sort((a, b) => depth(b) - depth(a)) as [Fault[]]
      if (depth(meant) > path.length) yield * meant
      else yield { path, message: `expected ${(schema.anyOf as TSchema[]).map(kindOf).join(' or ')}` }
    }
  }
}

function kindOf (schema: TSchema): string {
  return schema.const === undefined ? `${schema.anyOf === undefined ? schema.type ?? 'value' : (schema.anyOf as TSchema[]).map(kindOf).join(' or ')}`.toLowerCase() : JSON.stringify(schema.const)
}

/** `principals.ada`, `routes["GET /orders"].skip`. */
function nameOf (path: string): string {
  if (path === '') return 'options'
  const names = path.slice(1).split('/').map(name => name.replaceAll('~1', '/').replaceAll('~0', '~'))
  return names.map((name, i) => /^[\w-]+$/.test(name) ? `${i === 0 ? '' : '.'}${name}` : `[${JSON.stringify(name)}]`).join('')
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
