/**
 * Keywords for TypeBox schemas beside those of JSON Schema. Those that change a value (`html`, `normalize`, `trim`, `distinct`) stand in the schema of what they change, run in
 * this order, before its lengths and patterns are looked at, and only there.
 */
import type { Ajv, ErrorObject, FuncKeywordDefinition } from 'ajv'
import type { DataValidateFunction } from 'ajv/dist/types/index.js'
import { faultOfAllowlist, HTML_ALLOWLISTS, htmlCleaner, type HtmlAllowlist } from '../html.js'
import { isSchema, partsOf, type Schema } from '../references.js'

/** A rule between the fields of an object, for `closed({ … }, { rules: [ … ] })`. It is asked once each field has its declared form. */
export interface Rule<Value = any> {
  /** Where the fault is, as a JSON pointer inside the object: `/endsAt`. */
  path: string
  /** What is wrong, never with a value in it. */
  message: string
  /** True where it is kept. Fields that are optional may be absent. */
  holds: (value: Value) => boolean
}

const FORMS = ['NFC', 'NFKC']
const LINE_BREAK = /\r\n|[\n\v\f\r\u0085\u2028\u2029]/g
/** Those that change the value. */
const CHANGING = ['html', 'normalize', 'trim', 'distinct'] as const
const SCALARS: readonly unknown[] = ['string', 'integer', 'number', 'boolean']

/** Adds the keywords to a compiler. `askRules: false` knows rules and does not ask them: for who looks at what may have any form. */
export function addKeywords (ajv: Ajv, { askRules = true }: { askRules?: boolean } = {}): Ajv {
  // Each is put right before `maxLength`, and so after the one before it.
  const changesText = { type: 'string', modifying: true, before: 'maxLength' } as const
  ajv.addKeyword({ ...changesText, keyword: 'html', schemaType: ['string', 'object'], compile: htmlKeyword, error: { message: 'must not be twice as long as its maximum' } })
  ajv.addKeyword({
    ...changesText,
    keyword: 'normalize',
    metaSchema: { enum: FORMS },
    errors: false,
    // In HTML only what is text is composed, and `html` does it.
    compile: (form: string, { html }) => html === undefined ? replaceBy(text => text.normalize(form)) : () => true,
  })
  ajv.addKeyword({ ...changesText, keyword: 'trim', schemaType: 'boolean', errors: false, compile: (isOn: boolean) => isOn ? replaceBy(text => text.trim()) : () => true })
  ajv.addKeyword({
    keyword: 'maxLines',
    type: 'string',
    before: 'maxLength',
    metaSchema: { type: 'integer', minimum: 1 },
    validate: (lines: number, text: string) => hasLines(text, lines),
    error: { message: ({ schema }) => `must NOT have more than ${String(schema)} lines` },
  })
  ajv.addKeyword({ keyword: 'distinct', type: 'array', schemaType: 'boolean', modifying: true, compile: distinctKeyword, error: { message: 'must have more items that differ' } })
  ajv.addKeyword({
    keyword: 'rules',
    type: 'object',
    schemaType: 'array',
    compile: (rules: readonly Rule[]) => askRules ? rulesKeyword(rules) : () => true,
    errors: 'full',
  } as FuncKeywordDefinition)
  return ajv
}

/** What stands where it could not run, or would run more than once. */
export function misplacedKeywords (root: unknown): string[] {
  const found = new Set<string>()
  const seen = new Set<unknown>()

  function look (schema: unknown): void {
    if (!isSchema(schema) || seen.has(schema)) return
    seen.add(schema)
    for (const name of ['anyOf', 'oneOf'] as const) {
      const branches = (schema[name] ?? []) as unknown[]
      const types = branches.map(branch => isSchema(branch) && typeof branch.type === 'string' ? branch.type : null)
      // A branch that fails would leave to the next one what it has changed.
      if (branches.some(changes) && (types.includes(null) || new Set(types).size < types.length)) found.add(`the branches of ${name}: give each a type of its own`)
    }
    for (const name of ['not', 'if', 'contains', 'propertyNames']) if (changes(schema[name])) found.add(`${name}: it only looks`)
    if (schema.distinct === true && !(isSchema(schema.items) && SCALARS.includes(schema.items.type))) found.add('a list of what is no text, number or boolean')
    partsOf(schema).forEach(look)
  }

  if (isSchema(root) && CHANGING.some(name => name !== 'distinct' && name in root)) found.add('the whole body: make it a field of an object')
  look(root)
  return [...found]
}

function changes (schema: unknown): boolean {
  return isSchema(schema) && (CHANGING.some(name => name in schema) || partsOf(schema).some(changes))
}

function replaceBy (change: (text: string) => string): DataValidateFunction {
  return (text: string, at) => {
    at!.parentData[at!.parentDataProperty] = change(text)
    return true
  }
}

function htmlKeyword (list: string | HtmlAllowlist, { maxLength, normalize }: Schema): DataValidateFunction {
  const allowed = typeof list === 'string' ? Object.hasOwn(HTML_ALLOWLISTS, list) ? HTML_ALLOWLISTS[list as keyof typeof HTML_ALLOWLISTS] : null : list
  if (allowed === null) throw new Error(`html: there is no allowlist ${JSON.stringify(list)}`)
  const fault = faultOfAllowlist(allowed)
  if (fault !== null) throw new Error(`html: ${fault}`)
  const clean = htmlCleaner(allowed, { normalize: normalize !== undefined })
  // What is cleaned away does not count, but a flood of it is not even looked at.
  const longest = typeof maxLength === 'number' ? 2 * maxLength : Infinity
  const replace = replaceBy(clean)
  return (html: string, at) => html.length <= longest && replace(html, at)
}

function hasLines (text: string, most: number): boolean {
  let lines = 1
  LINE_BREAK.lastIndex = 0
  while (lines <= most && LINE_BREAK.test(text)) lines++
  return lines <= most
}

function distinctKeyword (isOn: boolean, { minItems = 0 }: Schema): DataValidateFunction {
  return (list: unknown[]) => {
    if (!isOn) return true
    const kept = [...new Set(list)]
    for (const [i, item] of kept.entries()) list[i] = item
    list.length = kept.length
    return kept.length >= (minItems as number)
  }
}

function rulesKeyword (rules: readonly Rule[]): DataValidateFunction {
  if (!rules.every(rule => typeof rule?.path === 'string' && typeof rule.message === 'string' && typeof rule.holds === 'function')) throw new Error('rules: each has a path, a message and holds()')
  const ask: DataValidateFunction = (value: unknown, at) => {
    const broken = rules.find(rule => !rule.holds(value))
    if (broken === undefined) return true
    ask.errors = [{ instancePath: `${at!.instancePath}${broken.path}`, schemaPath: '#/rules', keyword: 'rules', params: {}, message: broken.message } satisfies ErrorObject]
    return false
  }
  return ask
}
