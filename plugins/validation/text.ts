/** Query, parameters and headers: text by nature, one level of it, one value to one name. */
import type { ErrorObject, ValidateFunction } from 'ajv'
import type { FastifyRequest } from 'fastify'
import { isStorableText, TextUnstorable } from '../json.js'
import { isSchema, type Schema } from '../references.js'

/** What Fastify takes of a validator. */
export type Verdict = { value: unknown } | { error: Error | ValidateFunction['errors'] }

/** A number as JSON writes it. Ajv takes `0x10`, ` 7` and `Infinity` for numbers, too. */
const NUMBER = /^-?(?:0|[1-9]\d{0,30})(?:\.\d{1,30})?(?:e[+-]?\d{1,3})?$/i

/** Query, parameters and headers are one level of texts, or of lists of texts where a name is repeated. */
export function validatorOfText (validate: ValidateFunction, schema: Schema) {
  const properties = Object.entries((schema.properties ?? {}) as Record<string, Schema>)
  const lists = properties.filter(([, { type }]) => type === 'array').map(([name]) => name)
  const numbers = properties.flatMap(([name, { type, items }]) => {
    const kind = type === 'array' && isSchema(items) ? items.type : type
    return kind === 'number' || kind === 'integer' ? [[name, kind] as const] : []
  })

  return function validateText (texts: Record<string, unknown>): Verdict {
    for (const text of Object.values(texts)) {
      if (typeof text === 'string' ? !isStorableText(text) : Array.isArray(text) && !text.every(isStorableText)) return { error: new TextUnstorable() }
    }
    // A list of one is written like a single value.
    for (const name of lists) if (typeof texts[name] === 'string') texts[name] = [texts[name]]
    for (const [name, kind] of numbers) {
      if (![texts[name]].flat().every(text => typeof text !== 'string' || isNumber(text, kind))) return { error: [notA(kind, name)] }
    }
    return validate(texts) ? { value: texts } : { error: validate.errors }
  }
}

/** A query is percent-encoded UTF-8. What is not would be taken to the letter, as if it were encoded once more (CWE-176). */
export function refuseCrookedQuery ({ raw: { url = '' } }: FastifyRequest): void {
  const query = url.slice(url.indexOf('?') + 1)
  if (!query.includes('%')) return
  try {
    decodeURIComponent(query)
  } catch {
    throw new TextUnstorable()
  }
}

function isNumber (text: string, kind: 'number' | 'integer'): boolean {
  // Beyond the safe integers another number than the one that was asked for would be looked for.
  return NUMBER.test(text) && (kind === 'integer' ? Number.isSafeInteger(Number(text)) : Number.isFinite(Number(text)))
}

function notA (kind: string, name: string): ErrorObject {
  return { instancePath: `/${name}`, schemaPath: '#', keyword: 'type', params: { type: kind }, message: `must be ${kind}` }
}
