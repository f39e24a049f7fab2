/** Compilers: schemas become functions, once each and at boot. */
import { Ajv, type ValidateFunction } from 'ajv'
import formats from 'ajv-formats'
import { hasReference, type Schema } from '../references.js'
import { addKeywords } from './keywords.js'
import { validatorOfText, type Verdict } from './text.js'

type Shared = Readonly<Record<string, unknown>>
/** `body` coerces nothing and stops at the first fault, `faults` finds all of them, `text` coerces. */
type Kind = 'body' | 'faults' | 'text'
type Validator = (input: any) => Verdict | boolean
interface Compilers {
  shared: Shared
  ajv: (kind: Kind) => Ajv
  /** By schema. */
  made: Record<Kind, WeakMap<object, ValidateFunction | Validator>>
}

export interface SchemaCompiler {
  /**
   * @param shared the schemas that the scope knows, by their `$id`
   * @param isTold whether all faults of a body are told; undefined where no body of this route is so small
   */
  body: (schema: object, shared: () => Shared, isTold?: (body: unknown) => boolean) => Validator
  text: (schema: object, shared: () => Shared) => Validator
}

const addFormats = formats as unknown as (ajv: Ajv, names: string[]) => Ajv
const FORMATS = ['date', 'time', 'date-time', 'duration', 'email', 'hostname', 'ipv4', 'ipv6', 'uri', 'uuid']
/** Keywords of documentation and of other concerns that Ajv must know to stay strict. */
const ANNOTATIONS = ['visibleTo', 'open', 'encrypted', 'example', 'hide']
const NO_SCHEMAS: Shared = {}
/** Faults that an answer tells at most. */
const MAX_FAULTS = 32

export function schemaCompiler (): SchemaCompiler {
  const all: Compilers[] = []

  /** One schema is compiled once, however many routes share it. */
  function compile (kind: Kind, schema: object, shared: () => Shared): ValidateFunction | Validator {
    const { ajv, made } = compilersFor(hasReference(schema) ? shared() : NO_SCHEMAS)
    let validate = made[kind].get(schema)
    if (validate === undefined) {
      const plain = ajv(kind).compile(schema)
      validate = kind === 'text' ? validatorOfText(plain, schema as Schema) : plain
      made[kind].set(schema, validate)
    }
    return validate
  }

  /** Scopes that know the same schemas share their compilers; those in which a name means something else have their own. */
  function compilersFor (shared: Shared): Compilers {
    const names = Object.keys(shared)
    const known = all.find(other => other.shared === shared) ?? all.find(other => Object.keys(other.shared).length === names.length && names.every(name => other.shared[name] === shared[name]))
    if (known !== undefined) return known
    const instances = new Map<Kind, Ajv>()
    const compilers: Compilers = {
      shared,
      made: { body: new WeakMap(), faults: new WeakMap(), text: new WeakMap() },
      ajv (kind) {
        const ajv = instances.get(kind) ?? makeAjv(kind, shared)
        instances.set(kind, ajv)
        return ajv
      },
    }
    all.push(compilers)
    return compilers
  }

  return {
    text: (schema, shared) => compile('text', schema, shared) as Validator,
    body (schema, shared, isTold) {
      const validate = compile('body', schema, shared) as ValidateFunction
      if (isTold === undefined) return validate as Validator
      const findAll = compile('faults', schema, shared) as ValidateFunction
      return function validateAndTell (body: unknown): Verdict | boolean {
        if (validate(body)) return true
        const { errors } = validate
        // Where nothing else is wrong, a rule between fields is.
        return { error: isTold(body) && !findAll(body) ? findAll.errors!.slice(0, MAX_FAULTS) : errors }
      }
    },
  }
}

function makeAjv (kind: Kind, shared: Shared): Ajv {
  const ajv = new Ajv({
    coerceTypes: kind === 'text',
    allErrors: kind === 'faults',
    useDefaults: true,
    removeAdditional: false,
    strict: true,
    strictTypes: false,
    strictRequired: false,
    allowUnionTypes: true,
  })
  for (const keyword of ANNOTATIONS) ajv.addKeyword({ keyword })
  addFormats(ajv, FORMATS)
  addKeywords(ajv, { askRules: kind !== 'faults' })
  for (const schema of Object.values(shared)) ajv.addSchema(schema as object)
  return ajv
}
