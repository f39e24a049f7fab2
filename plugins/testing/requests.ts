/** Requests that are made of schemas, and of what the caller of the kit knows. */
import { Callers, isSafe } from './callers.js'
import { checkPrincipal } from './checking.js'
import type { AttackOptions, Made, RouteHints } from './contract.js'
import type { Shot } from './exchange.js'
import { formFor } from './forms.js'
import { Mask } from './masking.js'
import { ObjectIds, pathOf, type Ids, type Whose } from './objects.js'
import { randomOf, type Random } from './random.js'
import { objectOf, propertiesOf, Unmade, valueOf, type Given } from './schemas.js'
import type { Route, Surface } from './surface.js'

export class Requests {
  readonly options: AttackOptions
  readonly surface: Surface
  readonly random: Random
  /** What is sent and must be in no report. */
  readonly mask: Mask
  readonly callers: Callers
  readonly objects: ObjectIds

  constructor (options: AttackOptions, surface: Surface) {
    this.options = options
    this.surface = surface
    this.random = randomOf(options.seed ?? 1)
    this.mask = new Mask(options)
    this.callers = new Callers(options.principals ?? {}, (name, principal) => {
      checkPrincipal(name, principal)
      this.mask.ofPrincipal(name, principal)
    })
    this.objects = new ObjectIds(options.objects ?? {}, this.random)
  }

  hints (route: Route): RouteHints {
    return this.options.routes?.[route.name] ?? {}
  }

  /**
   * A request that the policy lets through: path, query and body are made of the schemas.
   *
   * @returns a reason where none can be made
   */
  async valid (route: Route, as: string | null, whose: Whose = 'any', change?: (body: unknown) => unknown): Promise<Shot | string> {
    try {
      if (as !== null) await this.callers.get(as)
      // What is not valid any more is refused, and changes nothing where bodies are strict.
      const path = await this.path(route, as, whose, !isSafe(route.method) && (change === undefined || !this.surface.strict))
      if (path === null) return `objects names no ${whose} ${route.params.join(', ')}${as === null ? '' : ` of ${as}`}`
      const body = await this.body(route, change)
      return { route, as, path, ...body, ...whose !== 'any' && { isOwn: whose === 'own' } }
    } catch (error) {
      if (error instanceof Unmade) return error.message
      throw error
    }
  }

  /** The same on an object of the caller's own, where objects have owners. */
  async ofOwn (route: Route, as: string | null, change?: (body: unknown) => unknown): Promise<Shot | string> {
    const isOwned = as !== null && this.objects.ownedParam(route, this.hints(route).objects) !== null
    const own = isOwned ? await this.valid(route, as, 'own', change) : 'nobody owns it'
    return typeof own === 'string' ? this.valid(route, as, 'any', change) : own
  }

  /** @param fresh an object that may be changed or deleted */
  async path (route: Route, as: string | null, whose: Whose = 'any', fresh = false): Promise<string | null> {
    const { objects, query } = this.hints(route)
    // What is theirs is made with them.
    if (whose === 'foreign') await this.callers.all()
    const given = await this.#given(route.paramsSchema)
    const ids: Ids | null = await this.objects.of(route, as, whose, fresh, objects, given)
    return ids === null ? null : `${pathOf(route.url, ids)}${searchOf(query === undefined ? await this.requiredQuery(route) : this.#told(await made(query)))}`
  }

  async requiredQuery (route: Route): Promise<Record<string, unknown>> {
    const { required = [] } = (objectOf(route.querySchema) ?? {}) as { required?: string[] }
    const given = await this.#given(route.querySchema)
    return Object.fromEntries(Object.entries(propertiesOf(route.querySchema)).filter(([name]) => required.includes(name)).map(([name, part]) => [name, given(name) ?? valueOf(part, given, `/${name}`)]))
  }

  /** The value of a valid body; undefined where the route takes none. */
  async bodyValue (route: Route): Promise<unknown> {
    const { body } = this.hints(route)
    if (body !== undefined) return this.#told(await made(body))
    return route.body === null ? undefined : valueOf(route.body.schema, await this.#given(route.body.schema))
  }

  async body (route: Route, change: (body: unknown) => unknown = body => body): Promise<Pick<Shot, 'body' | 'type'>> {
    const { body, type = route.body?.type ?? 'application/json' } = this.hints(route)
    if (body === undefined && (route.upload !== null || route.body?.type.startsWith('multipart/') === true)) {
      const form = route.upload === null ? null : formFor(route.upload)
      if (form === null) throw new Unmade('a body of several parts')
      return form
    }
    const value = await this.bodyValue(route)
    if (value === undefined) return {}
    return { type, body: typeof value === 'string' || Buffer.isBuffer(value) ? value : written(type, change(value)) }
  }

  /** Of what is given, no report holds what is secret by its name. */
  #told<T> (value: T, name?: string): T {
    this.mask.ofFields(value, name)
    return value
  }

  /** What the caller of the kit gives for the fields of a schema. */
  async #given (schema: unknown): Promise<Given> {
    const { values = {} } = this.options
    const known = new Map<string, unknown>()
    const look = async (part: unknown, depth: number): Promise<void> => {
      for (const [name, inner] of Object.entries(propertiesOf(part))) {
        if (Object.hasOwn(values, name) && !known.has(name)) known.set(name, this.#told(await made(values[name]), name))
        if (depth < 4) await look(inner, depth + 1)
      }
    }
    await look(schema, 0)
    return name => known.get(name)
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
