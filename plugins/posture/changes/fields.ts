/** What a route takes and what it answers with. */
import { isDeepStrictEqual } from 'node:util'
import { isSeenByFewer, type Bounds, type Taken, type Told } from '../fields.js'
import { listOf, stronger, weaker, without, type Note } from './note.js'

const PLACES: Readonly<Record<string, string>> = { body: 'its body', query: 'its query', params: 'its parameters', headers: 'its headers' }

export function inputChanges (before: Record<string, Taken>, after: Record<string, Taken>): Note[] {
  return Object.entries(PLACES).flatMap(([place, name]) => {
    const [was, is] = [before[place], after[place]]
    if (was === undefined && is === undefined) return []
    if (was === undefined) return [place === 'body' ? weaker(`takes a body now: ${short(Object.keys(is!).map(path => path || 'the whole').join(' '))}`) : stronger(`${name}: has a schema`)]
    if (is === undefined) return place === 'body' ? [stronger('takes no body any more')] : [weaker(`${name}: no longer has a schema`)]
    return bodyChanges(name, was, is)
  })
}

function bodyChanges (name: string, before: Taken, after: Taken): Note[] {
  const notes: Note[] = []
  for (const path of new Set([...Object.keys(before), ...Object.keys(after)])) {
    const [was, is] = [boundsAt(before, path), boundsAt(after, path)]
    const parent = parentOf(path)
    const wasNeeded = parent !== null && neededAt(before, parent).includes(nameOf(path))
    if (is === null) {
      if (!wasNeeded && boundsAt(after, parent ?? '') !== null) notes.push(stronger(`${name} no longer takes ${path}`))
    } else if (was === null) {
      if (boundsAt(before, parent ?? '') !== null) notes.push(weaker(`${name} takes a field that it refused: ${path}`))
    } else notes.push(...boundChanges(name, path, was, is))
    if (is !== null && was !== null) for (const field of without(neededAt(before, path), neededAt(after, path))) notes.push(weaker(`${name} no longer needs ${path}/${field}`))
  }
  return notes
}

function boundChanges (name: string, path: string, was: readonly Bounds[], is: readonly Bounds[]): Note[] {
  const at = path || 'the top'
  const wide = is.filter(one => !was.some(other => isNarrower(one, other)))
  if (wide.length === 0) return isDeepStrictEqual(was, is) ? [] : [stronger(`${name} takes less at ${at}`)]
  // What is no longer needed is told by its name, where it is one.
  const wider = wide.filter(one => !was.some(other => isNarrower({ ...one, required: other.required }, other)))
  if (wider.length > 0) return [weaker(`${name} takes more at ${at}: ${difference(wider[0]!, was)}`)]
  return without(neededIn(was), neededIn(is)).length > 0 ? [] : [weaker(`${name} takes more at ${at}: ${short(wide[0])}`)]
}

/** What holds at a path, also where it is one of the names that an object leaves open; null where it is refused. */
function boundsAt (taken: Taken, path: string): Bounds[] | null {
  if (taken[path] !== undefined) return taken[path]
  const parent = parentOf(path)
  const around = parent === null ? null : boundsAt(taken, parent)
  if (around === null) return null
  const isItem = nameOf(path) === '[]'
  if (around.some(({ anything, additionalProperties }) => anything === true || (additionalProperties === true && !isItem))) return [{ anything: true }]
  return isItem ? null : taken[`${parent}/*`] ?? null
}

function parentOf (path: string): string | null {
  return path === '' ? null : path.slice(0, path.lastIndexOf('/'))
}

function nameOf (path: string): string {
  return path.slice(path.lastIndexOf('/') + 1)
}

function neededAt (taken: Taken, path: string): string[] {
  return neededIn(taken[path] ?? [])
}

/** Names that are needed whichever bounds hold. */
function neededIn ([first, ...more]: readonly Bounds[]): string[] {
  const of = (bounds: Bounds | undefined) => listOf(bounds?.required as string[] | undefined)
  return of(first).filter(name => more.every(one => of(one).includes(name)))
}

export function outputChanges (before: Record<string, Told>, after: Record<string, Told>): Note[] {
  const hasSuccess = (output: Record<string, Told>) => Object.keys(output).some(isSuccess)
  if (hasSuccess(before) && !hasSuccess(after)) return [weaker('its answer has no schema any more')]
  if (!hasSuccess(before) && hasSuccess(after)) return [stronger('its answer has a schema')]
  return [...toldChanges('', widest(before, isSuccess), widest(after, isSuccess)), ...toldChanges('in an error: ', widest(before, isError), widest(after, isError))]
}

function toldChanges (where: string, was: Map<string, string[]>, is: Map<string, string[]>): Note[] {
  const notes: Note[] = []
  for (const [path, sights] of is) {
    const old = was.get(path)
    const whom = sights.length === 0 ? 'everybody who may call it' : sights.join(' or ')
    if (old === undefined) notes.push(weaker(`${where}answers with a field that it kept to itself: ${path}, for ${whom}`))
    else if (!isSeenByFewer(sights, old)) notes.push(weaker(`${where}shows ${path} to ${whom} (${old.join(' or ')} before)`))
    else if (!isSeenByFewer(old, sights)) notes.push(stronger(`${where}shows ${path} to ${whom} alone`))
  }
  for (const path of was.keys()) if (!is.has(path)) notes.push(stronger(`${where}no longer answers with ${path}`))
  return notes
}

function isSuccess (status: string): boolean {
  return /^[23]|^default$/.test(status)
}

function isError (status: string): boolean {
  return !isSuccess(status)
}

/** Of a field that several statuses have, whoever sees it in one of them. */
function widest (output: Record<string, Told>, isMeant: (status: string) => boolean): Map<string, string[]> {
  const fields = new Map<string, string[]>()
  for (const told of Object.keys(output).filter(isMeant).map(status => output[status]!)) {
    for (const [path, sights] of Object.entries(told)) {
      const before = fields.get(path)
      fields.set(path, before === undefined ? sights : before.length === 0 || sights.length === 0 ? [] : [...new Set([...before, ...sights])])
    }
  }
  return fields
}

/** Whatever one takes, the other takes too. */
function isNarrower (one: Bounds, other: Bounds): boolean {
  if (other.anything === true) return true
  if (one.anything === true || (one.additionalProperties === true && other.additionalProperties !== true)) return false
  return Object.entries(other).every(([keyword, value]) => {
    const own = one[keyword]
    if (value === undefined || value === false || isDeepStrictEqual(own, value)) return true
    if (keyword === 'additionalProperties') return true
    if (keyword === 'required' || keyword.endsWith(' too')) return without(value as string[], listOf(own)).length === 0
    if ('const' in one) return keyword !== 'const' && takesValue(keyword, value, one.const)
    if (keyword === 'type') return own !== undefined && [own].flat().every(type => [value].flat().includes(type) || (type === 'integer' && [value].flat().includes('number')))
    if (typeof own !== 'number' || typeof value !== 'number') return false
    return /^(?:max|exclusiveMax)/.test(keyword) ? own <= value : /^(?:min|exclusiveMin)/.test(keyword) ? own >= value : false
  })
}

/** Whether a certain value keeps to a keyword; false also where that cannot be said. */
function takesValue (keyword: string, bound: unknown, value: unknown): boolean {
  if (keyword === 'type') return [bound].flat().some(type => type === (value === null ? 'null' : typeof value) || (type === 'integer' && Number.isInteger(value)))
  if (keyword === 'pattern') return typeof value === 'string' && new RegExp(String(bound), 'u').test(value)
  const size = typeof value === 'string' ? [...value].length : NaN
  if (keyword === 'maxLength') return size <= Number(bound)
  if (keyword === 'minLength') return size >= Number(bound)
  if (keyword === 'maximum') return Number(value) <= Number(bound)
  return keyword === 'minimum' && Number(value) >= Number(bound)
}

/** What is wider, by its keywords. */
function difference (now: Bounds, before: readonly Bounds[]): string {
  const [old = {}] = before
  if (now.anything === true) return 'whatever there is'
  if ('const' in now) return `the value ${short(now.const)}`
  if (now.additionalProperties === true && before.every(({ additionalProperties, type }) => additionalProperties !== true && type === now.type)) return 'fields of any name'
  if (before.length > 1) return short(now)
  const keywords = [...new Set([...Object.keys(old), ...Object.keys(now)])].filter(name => name !== 'required' && !isNarrower({ ...name in now && { [name]: now[name] } }, { ...name in old && { [name]: old[name] } }))
  return keywords.map(name => `${name} ${name in now ? short(now[name]) : 'dropped'} (${name in old ? short(old[name]) : 'none'} before)`).join(', ')
}

export function short (value: unknown): string {
  const text = typeof value === 'string' ? value : JSON.stringify(value)
  return text.length > 80 ? `${text.slice(0, 79)}…` : text
}
