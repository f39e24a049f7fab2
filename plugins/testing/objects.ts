/** Objects: the ids that stand in a path, whose they are, and those that do not exist. */
import type { Objects, ObjectSource } from './contract.js'
import type { Random } from './random.js'
import { valueOf, type Given } from './schemas.js'
import type { Route } from './surface.js'

export type Whose = 'own' | 'foreign' | 'missing' | 'any'
export type Ids = Readonly<Record<string, string>>

export const NOBODYS = '*'

export class ObjectIds {
  readonly #objects: Objects
  readonly #random: Random
  readonly #kept = new Map<ObjectSource, { owner: string, id: string }>()
  readonly #owners = new Map<string, string>()

  constructor (objects: Objects, random: Random) {
    this.#objects = objects
    this.#random = random
  }

  /** The parameter of a route whose values belong to somebody; null where none does. */
  ownedParam ({ params }: Route, hints: Objects = {}): string | null {
    return params.find(param => Object.keys({ ...this.#objects[param], ...hints[param] }).some(name => name !== NOBODYS)) ?? null
  }

  /**
   * Ids for the parameters of a route; null where there are none of that kind.
   *
   * @param fresh an object that may be changed or deleted: not one that others are asked about later
   */
  async of (route: Route, name: string | null, whose: Whose, fresh: boolean, hints: Objects = {}, given: Given = () => undefined): Promise<Ids | null> {
    const owned = this.ownedParam(route, hints)
    const ids: Record<string, string> = {}
    for (const param of route.params) {
      const known = { ...this.#objects[param], ...hints[param] }
      const id = param === owned || whose === 'missing' ? await this.#pick(known, name, whose, fresh) : await this.#pick(known, name, 'any', fresh)
      const made = id ?? (param === owned ? null : fallback(route, param, given))
      if (made === null) return null
      ids[param] = made
    }
    return ids
  }

  async #pick (known: Readonly<Record<string, ObjectSource>>, name: string | null, whose: Whose, fresh: boolean): Promise<string | null> {
    const others = Object.keys(known).filter(owner => owner !== name && owner !== NOBODYS)
    const own = name === null ? undefined : known[name]
    switch (whose) {
      case 'own': return this.#take(own, name!, fresh)
      case 'foreign': return this.#take(known[others[0] ?? ''], others[0]!, fresh)
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

  /** Whose object a path leads to; null where it is nobody's. */
  ownerIn (path: string): string | null {
    const [plain = ''] = path.split('?')
    return plain.split('/').map(part => this.#owners.get(part)).find(owner => owner !== undefined) ?? null
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
  return url.replace(/:([A-Za-z0-9_]+)(?:\([^)]*\))?\??|\*/g, (all, name?: string) => encodeURIComponent(ids[name ?? all] ?? '0'))
}
