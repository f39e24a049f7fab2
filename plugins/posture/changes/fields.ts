/** What a route takes and what it answers with. */
import { isDeepStrictEqual } from 'node:util'
import { isSeenByFewer, type Bounds, type Taken, type Told } from '../fields.js'
import { stronger, weaker, type Note } from './note.js'

const PLACES: Readonly<Record<string, string>> = { body: 'its body', query: 'its query', params: 'its parameters', headers: 'its headers' }

export function inputChanges (before: Record<string, Taken>, after: Record<string, Taken>): Note[] {
  return Object.entries(PLACES).flatMap(([place, name]) => {
    const [was, is] = [before[place], after[place]]
    if (was === undefined) return is === undefined || place === 'body' ? bodyChanges(name, {}, is ?? {}) : [stronger(`${name}: has a schema`)]
    if (is === undefined) return place === 'body' ? [stronger('takes no body any more')] : [weaker(`${name}: no longer has a schema`)]
    return bodyChanges(name, was, is)
  })
}

function bodyChanges (name: string, before: Taken, after: Taken): Note[] {
  const notes: Note[] = []
  for (const [path, bounds] of Object.entries(after)) {
    const old = before[path]
    if (old === undefined) {
      if (path !== '') notes.push(weaker(`${name} takes a field that it refused: ${path}`))
      continue
    }
    const wide = bounds.filter(one => !old.some(other => isNarrower(one, other)))
    if (wide.length > 0) notes.push(weaker(`${name} takes more at ${path || 'the top'}: ${difference(wide[0]!, old)}`))
    else if (!isDeepStrictEqual(bounds, old)) notes.push(stronger(`${name} takes less at ${path || 'the top'}`))
  }
  for (const [path, bounds] of Object.entries(before)) {
    if (path !== '' && bounds.some(isNeeded) && !(after[path] ?? []).some(isNeeded)) notes.push(weaker(`${name} no longer needs ${path}`))
    else if (after[path] === undefined && path !== '') notes.push(stronger(`${name} no longer takes ${path}`))
  }
  return notes
}

export function outputChanges (before: Record<string, Told>, after: Record<string, Told>): Note[] {
  const [was, is] = [widest(before), widest(after)]
  const notes: Note[] = []
  for (const [path, sights] of is) {
    const old = was.get(path)
    const whom = sights.length === 0 ? 'everybody who may call it' : sights.join(' or ')
    if (old === undefined) notes.push(weaker(`answers with a field that it kept to itself: ${path}, for ${whom}`))
    else if (!isSeenByFewer(sights, old)) notes.push(weaker(`shows ${path} to ${whom} (${old.join(' or ')} before)`))
    else if (!isSeenByFewer(old, sights)) notes.push(stronger(`shows ${path} to ${whom} alone`))
  }
  for (const path of was.keys()) if (!is.has(path)) notes.push(stronger(`no longer answers with ${path}`))
  return notes
}

/** Of a field that several statuses have, whoever sees it in one of them. */
function widest (output: Record<string, Told>): Map<string, string[]> {
  const fields = new Map<string, string[]>()
  for (const told of Object.values(output)) {
    for (const [path, sights] of Object.entries(told)) {
      const before = fields.get(path)
      fields.set(path, before === undefined ? sights : before.length === 0 || sights.length === 0 ? [] : [...new Set([...before, ...sights])])
    }
  }
  return fields
}

function isNeeded (bounds: Bounds): boolean {
  return bounds.required === true
}

/** Whatever one takes, the other takes too. */
function isNarrower (one: Bounds, other: Bounds): boolean {
  if ('const' in one && !('const' in other)) return other.anything === true || typesOf(one).every(type => typesOf(other).includes(type))
  return Object.entries(other).every(([keyword, value]) => {
    const own = one[keyword]
    if (keyword === 'required' || keyword === 'anything' || isDeepStrictEqual(own, value)) return true
    if (keyword === 'type') return [own ?? []].flat().length > 0 && [own].flat().every(type => [value].flat().includes(type) || (type === 'integer' && [value].flat().includes('number')))
    if (keyword === 'additionalProperties') return value === true
    if (typeof own !== 'number' || typeof value !== 'number') return false
    return /^(?:max|exclusiveMax)/.test(keyword) ? own <= value : /^(?:min|exclusiveMin)/.test(keyword) ? own >= value : false
  }) && !(one.additionalProperties === true && other.additionalProperties !== true && other.anything !== true) && !(one.anything === true && other.anything !== true)
}

function typesOf ({ type, const: value }: Bounds): unknown[] {
  if (type !== undefined) return [type].flat()
  return [value === null ? 'null' : Number.isInteger(value) ? 'integer' : typeof value]
}

/** What is wider, by its keywords. */
function difference (now: Bounds, before: readonly Bounds[]): string {
  const [old = {}] = before
  if (before.length > 1 || 'const' in now) return short(now)
  const keywords = [...new Set([...Object.keys(old), ...Object.keys(now)])].filter(name => name !== 'required' && !isNarrower({ ...name in now && { [name]: now[name] } }, { ...name in old && { [name]: old[name] } }))
  return keywords.map(name => `${name} ${name in now ? short(now[name]) : 'dropped'} (${name in old ? short(old[name]) : 'none'} before)`).join(', ')
}

export function short (value: unknown): string {
  const text = typeof value === 'string' ? value : JSON.stringify(value)
  return text.length > 80 ? `${text.slice(0, 79)}…` : text
}
