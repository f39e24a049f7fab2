/** Requests that are made of schemas, and of what the caller of the kit knows. */
import { Callers, isOfSuite, isSafe } from './callers.js'
import { checkPrincipal } from './checking.js'
import type { AttackOptions, Made, RouteHints } from './contract.js'
import { isOfSession } from './cookies.js'
import { unreadable, type Shot } from './exchange.js'
import { formFor } from './forms.js'
import { Mask } from './masking.js'
import { ObjectIds, pathOf, type Foreign, type Ids, type Whose } from './objects.js'
import { randomOf, type Random } from './random.js'
import { objectOf, propertiesOf, typesOf, Unmade, valueOf, type Given } from './schemas.js'
import type { Route, Surface } from './surface.js'

export class Requests {
  readonly options: AttackOptions
  readonly surface: Surface
  readonly random: Random
  /** What is sent and must be in no report. */
  readonly mask: Mask
  readonly callers: Callers
  readonly objects: ObjectIds
  /** By which callers are known. */
  readonly #cookies = new Set<string>()

  constructor (options: AttackOptions, surface: Surface) {
    this.options = options
    this.surface = surface
    this.random = randomOf(options.seed ?? 1)
    this.mask = new Mask(options)
    this.callers = new Callers(options.principals ?? {}, (name, principal) => {
      checkPrincipal(name, principal)
      this.mask.ofPrincipal(name, principal)
      for (const pair of principal.cookie?.split('; ') ?? []) this.#cookies.add(pair.slice(0, pair.indexOf('=')))
    })
    this.objects = new ObjectIds(options.objects ?? {}, this.random, Object.keys(options.values ?? {}))
  }

  /** Whether a cookie of this name is one of a sign-in. */
  isOfSession (name: string): boolean {
    return isOfSession(name, this.#cookies)
  }

  hints (route: Route): RouteHints {
    return this.options.routes?.[route.name] ?? {}
  }

  /**
   * A request that the policy lets through: path, query and body are made of the schemas.
   *
   * @returns a reason where none can be made
   */
  async valid (route: Route, as: string | null, whose: Whose = 'any', change?: (body: unknown) => unknown, foreign: Foreign = {}): Promise<Shot | string> {
    if (as !== null) await this.callers.get(as)
    // What is not valid any more is refused, and changes nothing where bodies are strict.
    const ids = await this.#ids(route, as, whose, !isSafe(route.method) && (change === undefined || !this.surface.strict), foreign)
    if (ids === null) return `objects names no ${whose} ${foreign.only ?? route.params.join(', ')}${as === null ? '' : ` of ${as}`}`
    return unlessUnmade(async () => {
      const body = await this.body(route, change, ofFields(route, ids))
      return { route, as, path: await this.#pathWith(route, ids), ...body, ...whose !== 'any' && { isOwn: whose === 'own' } }
    }, ({ message }) => message)
  }

  /** The same on an object of the caller's own, where objects have owners. */
  async ofOwn (route: Route, as: string | null, change?: (body: unknown) => unknown): Promise<Shot | string> {
    const isOwned = as !== null && this.objects.ownedParam(route, this.hints(route).objects) !== null
    const own = isOwned ? await this.valid(route, as, 'own', change) : 'nobody owns it'
    return typeof own === 'string' ? this.valid(route, as, 'any', change) : own
  }

  /** Null where there is no such object, or no query can be made. */
  async path (route: Route, as: string | null, whose: Whose = 'any'): Promise<string | null> {
    const ids = await this.#ids(route, as, whose, false)
    return ids === null ? null : unlessUnmade(() => this.#pathWith(route, ids), () => null)
  }

  /** For who is refused before anybody looks at what is asked for: of any object, or of one that is missing; without the query, where none can be made. */
  async anyPath (route: Route, as: string | null): Promise<string> {
    const ids = await this.#ids(route, as, 'any', false) ?? (await this.#ids(route, as, 'missing', false))!
    return unlessUnmade(() => this.#pathWith(route, ids), () => pathOf(route.url, ids))
  }

  /** For who must be refused: in the suite, which asks who calls before it reads, what nobody can read; elsewhere what is valid, as far as that can be made. */
  async anyBody (route: Route): Promise<Pick<Shot, 'body' | 'type'>> {
    return isOfSuite(route) ? unreadable(route) : this.validBody(route)
  }

  /** None where none can be made. */
  async validBody (route: Route): Promise<Pick<Shot, 'body' | 'type'>> {
    return unlessUnmade(() => this.body(route), () => ({}))
  }

  async #ids (route: Route, as: string | null, whose: Whose, fresh: boolean, foreign?: Foreign): Promise<Ids | null> {
    // What is theirs is made with them.
    if (whose === 'foreign') await this.callers.all()
    const { objects } = this.hints(route)
    const ids = await this.objects.of(route, as, whose, fresh, objects, await this.#given(route.paramsSchema), foreign)
    const isGiven = (name: string) => objects?.[name] !== undefined || this.options.objects?.[name] !== undefined
    // Some ids are secrets themselves, such as that of a link; those of nothing are none.
    if (whose !== 'missing') this.#told(Object.fromEntries(Object.entries(ids ?? {}).filter(([name]) => isGiven(name))))
    return ids
  }

  async #pathWith (route: Route, ids: Ids): Promise<string> {
    const { query } = this.hints(route)
    const fields = ofFields(route, ids)
    const told = query === undefined ? await this.requiredQuery(route, fields) : this.#told(await made(query))
    return `${pathOf(route.url, ids)}${searchOf(withIds(route.querySchema, told, fields) as Record<string, unknown>)}`
  }

  async requiredQuery (route: Route, ids: Ids = {}): Promise<Record<string, unknown>> {
    const { required = [] } = (objectOf(route.querySchema) ?? {}) as { required?: string[] }
    const given = await this.#given(route.querySchema, ids)
    return Object.fromEntries(Object.entries(propertiesOf(route.querySchema)).filter(([name]) => required.includes(name)).map(([name, part]) => [name, given(name) ?? valueOf(part, given, `/${name}`)]))
  }

  /** The value of a valid body; undefined where the route takes none. */
  async bodyValue (route: Route, ids: Ids = {}): Promise<unknown> {
    const { body } = this.hints(route)
    if (body !== undefined) return this.#told(await made(body))
    return route.body === null ? undefined : valueOf(route.body.schema, await this.#given(route.body.schema, ids))
  }

  async body (route: Route, change: (body: unknown) => unknown = body => body, ids: Ids = {}): Promise<Pick<Shot, 'body' | 'type'>> {
    const { body, type = route.body?.type ?? 'application/json' } = this.hints(route)
    if (body === undefined && (route.upload !== null || route.body?.type.startsWith('multipart/') === true)) {
      const form = route.upload === null ? null : formFor(route.upload)
      if (form === null) throw new Unmade('a body of several parts')
      return form
    }
    const value = withIds(route.body?.schema, await this.bodyValue(route, ids), ids)
    if (value === undefined) return {}
    return { type, body: typeof value === 'string' || Buffer.isBuffer(value) ? value : written(type, change(value)) }
  }

  /** Of what is given, no report holds what is secret by its name. */
  #told<T> (value: T, name?: string): T {
    this.mask.ofFields(value, name)
    return value
  }

  /** What the caller of the kit gives for the fields of a schema. */
  async #given (schema: unknown, ids: Ids = {}): Promise<Given> {
    const { values = {} } = this.options
    const known = new Map<string, unknown>()
    const look = async (part: unknown, depth: number): Promise<void> => {
      for (const [name, inner] of Object.entries(propertiesOf(part))) {
        if (Object.hasOwn(values, name) && !known.has(name)) known.set(name, this.#told(await made(values[name]), name))
        if (depth < 4) await look(inner, depth + 1)
      }
    }
    await look(schema, 0)
    return name => known.get(name) ?? (Object.hasOwn(ids, name) ? ids[name] : undefined)
  }
}

/** Those of the path stand there. */
function ofFields ({ params }: Route, ids: Ids): Ids {
  return Object.fromEntries(Object.entries(ids).filter(([name]) => !params.includes(name)))
}

/** With ids of objects in the fields that hold some. */
function withIds (schema: unknown, value: unknown, ids: Ids): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value) || Buffer.isBuffer(value)) return value
  const fields = Object.entries(propertiesOf(schema)).filter(([name]) => Object.hasOwn(ids, name))
  const held = fields.map(([name, part]) => {
    const types = typesOf(part)
    const id = types.includes('integer') || types.includes('number') ? Number(ids[name]) : ids[name]
    return [name, types.includes('array') ? [id] : id] as const
  })
  return { ...value, ...Object.fromEntries(held) }
}

/** What is made, or something else where no value is known that fits. */
async function unlessUnmade<T, U> (make: () => Promise<T>, other: (error: Unmade) => U): Promise<T | U> {
  try {
    return await make()
  } catch (error) {
    if (error instanceof Unmade) return other(error)
    throw error
  }
}

export function made<T> (source: Made<T>): T | Promise<T> {
  return typeof source === 'function' ? (source as () => T | Promise<T>)() : source
}

export function written (type: string, value: unknown): string {
  return type === 'application/x-www-form-urlencoded' ? new URLSearchParams(Object.entries(value as object).map(([name, part]): [string, string] => [name, String(part)])).toString() : JSON.stringify(value)
}

export function searchOf (query: Readonly<Record<string, unknown>>): string {
  const text = new URLSearchParams(Object.entries(query).map(([name, value]): [string, string] => [name, String(value)])).toString()
  return text === '' ? '' : `?${text}`
}
