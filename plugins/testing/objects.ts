/** Objects: the ids that stand in a path, a query or a body, whose they are, and those that do not exist. */
import type { Objects, ObjectSource } from './contract.js'
import { filled } from './paths.js'
import type { Random } from './random.js'
import { propertiesOf, valueOf, type Given } from './schemas.js'
import type { Route } from './surface.js'

export type Whose = 'own' | 'foreign' | 'missing' | 'any'

/** Of what is foreign. */
export interface Foreign {
  /** This field or parameter alone, beside the caller's own; all of them where it is left out. */
  only?: string
  /** Whose it is (default: the first other). */
  owner?: string
}
export type Ids = Readonly<Record<string, string>>

export const NOBODYS = '*'
/** Fields that hold an id, by their names; any other is one where the hints of its route say so. */
const ID = /(?:^|_)ids?$|Ids?$/

export class ObjectIds {
  readonly #objects: Objects
  readonly #random: Random
  readonly #values: ReadonlySet<string>
  readonly #kept = new Map<ObjectSource, { owner: string, id: string }>()
  readonly #owners = new Map<string, string>()

  /** @param values fields of query and body that are what somebody says, whosever they are */
  constructor (objects: Objects, random: Random, values: readonly string[] = []) {
    this.#objects = objects
    this.#random = random
    this.#values = new Set(values)
  }

  /** The first that belongs to somebody; null where none does. */
  ownedParam (route: Route, hints: Objects = {}): string | null {
    return this.owned(route, hints)[0] ?? null
  }

  /** What of a route belongs to somebody: parameters of its path, and fields of query and body that hold an id. */
  owned (route: Route, hints: Objects = {}): string[] {
    const hasOwner = (name: string, from: Objects) => Object.keys(from[name] ?? {}).some(owner => owner !== NOBODYS)
    const [first, ...others] = route.params.filter(name => hasOwner(name, this.#objects) || hasOwner(name, hints))
    const fields = Object.keys({ ...propertiesOf(route.querySchema), ...propertiesOf(route.body?.schema) }).filter(name => !route.params.includes(name) && !this.#values.has(name))
    // What the hints of a route give to nobody is, beside what is somebody's, whatever it is.
    const beside = [...others, ...fields.filter(name => ID.test(name))].filter(name => hints[name] === undefined && hasOwner(name, this.#objects))
    return [...new Set([...first === undefined ? [] : [first], ...beside, ...[...others, ...fields].filter(name => hasOwner(name, hints))])]
  }

  /**
   * Ids for the parameters of a route, and for fields that hold some; null where there are none of that kind.
   *
   * @param fresh an object that may be changed or deleted: not one that others are asked about later
   */
  async of (route: Route, name: string | null, whose: Whose, fresh: boolean, hints: Objects = {}, given: Given = () => undefined, { only, owner }: Foreign = {}): Promise<Ids | null> {
    const owned = this.owned(route, hints)
    const knownAs = (field: string) => ({ ...this.#objects[field], ...hints[field] })
    const other = owner ?? this.others(route, name, hints, only)[0]
    const ids: Record<string, string> = {}
    for (const field of new Set([...route.params, ...owned])) {
      const isOwned = owned.includes(field)
      const kind = whose === 'missing' || (isOwned && (only === undefined || only === field)) ? whose : isOwned ? 'own' : 'any'
      const made = await this.#pick(knownAs(field), name, kind, fresh, other) ?? (isOwned ? null : fallback(route, field, given))
      if (made !== null) ids[field] = made
      // Where a field holds none of theirs it is left as it is.
      else if (whose === 'foreign' || route.params.includes(field)) return null
    }
    return ids
  }

  /** Who else has all that belongs to somebody on a route, or that one thing. */
  others (route: Route, name: string | null, hints: Objects = {}, only?: string): string[] {
    const fields = (only === undefined ? this.owned(route, hints) : [only]).map(field => ({ ...this.#objects[field], ...hints[field] }))
    return Object.keys(fields[0] ?? {}).filter(owner => owner !== name && owner !== NOBODYS && fields.every(known => Object.hasOwn(known, owner)))
  }

  async #pick (known: Readonly<Record<string, ObjectSource>>, name: string | null, whose: Whose, fresh: boolean, other?: string): Promise<string | null> {
    const others = Object.keys(known).filter(owner => owner !== name && owner !== NOBODYS)
    const own = name === null ? undefined : known[name]
    switch (whose) {
      case 'own': return this.#take(own, name!, fresh)
      case 'foreign': return this.#take(known[other ?? others[0] ?? ''], other ?? others[0]!, fresh)
      case 'any': {
        const owner = Object.hasOwn(known, NOBODYS) ? NOBODYS : own !== undefined ? name! : others[0] ?? ''
        return this.#take(known[owner], owner, fresh)
      }
      case 'missing': {
        const [owner = ''] = Object.keys(known)
        const some = await this.#take(known[owner], owner, false)
        return some === null ? 'AAAAAAAAAAAAAAAA' : this.#unlike(some)
      }
    }
  }

  /** Whose object a path or a body names; null where it is nobody's. */
  ownerIn (text: string): string | null {
    return text.split(/[/?&=",:{}[\]\s]+/).map(part => this.#owners.get(part) ?? this.#owners.get(encodeURIComponent(part))).find(owner => owner !== undefined) ?? null
  }

  /** Whose objects an answer shows, by the fields in which ids stand; of those that were made so far. */
  ownersIn (json: unknown): Set<string> {
    const found = new Set<string>()
    const look = (value: unknown, name: string): void => {
      const owner = (typeof value === 'string' || typeof value === 'number') && ID.test(name) ? this.#owners.get(encodeURIComponent(value)) : undefined
      if (owner !== undefined) found.add(owner)
      if (typeof value === 'object' && value !== null) for (const [key, part] of Object.entries(value)) look(part, Array.isArray(value) ? name : key)
    }
    look(json, '')
    return found
  }

  /** One object of everybody's, of each kind. */
  async all (): Promise<void> {
    for (const known of Object.values(this.#objects)) for (const [owner, source] of Object.entries(known)) await this.#take(source, owner, false)
  }

  /** What is kept of somebody's objects is theirs no more. */
  forget (owner: string): void {
    for (const [source, kept] of this.#kept) if (kept.owner === owner) this.#kept.delete(source)
  }

  async #take (source: ObjectSource | undefined, owner: string, fresh: boolean): Promise<string | null> {
    if (source === undefined) return null
    const kept = fresh ? undefined : this.#kept.get(source)
    const id = kept?.id ?? (typeof source === 'string' ? source : await source())
    if (typeof source === 'function' && !fresh) this.#kept.set(source, { owner, id })
    if (owner !== NOBODYS) this.#owners.set(encodeURIComponent(id), owner)
    return id
  }

  /** An id of the same form that nothing has. */
  #unlike (id: string): string {
    if (/^\d+$/.test(id)) return '9'.repeat(Math.max(6, Math.min(9, id.length)))
    const alphabets = [/[0-9]/.test(id) ? '0123456789' : '', 'abcdef', 'ABCDEF']
    const made = id.replace(/[0-9]/g, () => this.#random.pick([...alphabets[0]!])).replace(/[a-z]/g, () => this.#random.pick([...alphabets[1]!])).replace(/[A-Z]/g, () => this.#random.pick([...alphabets[2]!]))
    return made === id ? `${id.slice(0, -1)}${id.endsWith('0') ? '1' : '0'}` : made
  }
}

/** What the schema of the parameter allows. */
function fallback ({ paramsSchema }: Route, param: string, given: Given): string {
  const schema = (paramsSchema?.properties as Record<string, unknown> | undefined)?.[param]
  const told = given(param)
  if (typeof told === 'string') return told
  try {
    return String(valueOf(schema ?? {}))
  } catch {
    return 'AAAAAAAAAAAAAAAA'
  }
}

/** The path of a route with these ids in it. */
export function pathOf (url: string, ids: Ids): string {
  return filled(url, name => encodeURIComponent(ids[name] ?? '0'))
}
