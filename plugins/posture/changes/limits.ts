/** How often, and how much at once. */
import { isDeepStrictEqual } from 'node:util'
import { parseWindow } from '../../limits/windows.js'
import { listOf, ranked, stronger, weaker, without, type Note } from './note.js'

interface Promised {
  by?: string | string[]
  windows?: string[] | false
  address?: string[] | false
  principal?: string[] | false
  plans?: Record<string, string[]>
  algorithm?: string
  cost?: number
  group?: string
  ban?: { after: number, for: string }
  exempt?: unknown
  whenAway?: string
}
type Windows = readonly { limit: number, ms: number }[]

const UNLIMITED = 'no limit'

export function limitChanges (was: unknown, is: unknown): Note[] {
  if (was === undefined || was === false) return is === undefined || is === false ? [] : [stronger(`has a limit: ${inWords(audiencesOf(is as Promised))}`)]
  if (is === undefined || is === false) return [weaker(`has no limit any more (${inWords(audiencesOf(was as Promised))} before)`)]
  const [before, after] = [was, is] as [Promised, Promised]
  const notes = windowChanges(before, after)
  if (!isDeepStrictEqual(before.by, after.by)) notes.push(weaker(`counts by ${[after.by].flat().join(' and ')} instead of ${[before.by].flat().join(' and ')}`))
  if (before.group !== undefined && before.group !== after.group) notes.push(weaker(`no longer shares the budget of the group ${before.group}`))
  if (before.ban !== undefined && !isDeepStrictEqual(before.ban, after.ban)) {
    notes.push(weaker(after.ban === undefined ? 'no longer bans who goes on' : `bans after ${after.ban.after} refusals for ${after.ban.for} (${before.ban.after} for ${before.ban.for} before)`))
  } else if (before.ban === undefined && after.ban !== undefined) notes.push(stronger(`bans who goes on, after ${after.ban.after} refusals`))
  const [spared, isSpared] = [before, after].map(({ exempt }) => listOf(exempt as string[] | string)) as [string[], string[]]
  for (const who of without(isSpared, spared)) notes.push(weaker(`who is exempt from limits: ${who} too`))
  for (const who of without(spared, isSpared)) notes.push(stronger(`who is exempt from limits: ${who} no longer`))
  notes.push(...ranked(['refuse', 'local', 'allow'], before.whenAway ?? 'local', after.whenAway ?? 'local', (old, now) => `when shared state is away: ${now} (${old} before)`))
  const [old, now] = [before.algorithm ?? 'sliding', after.algorithm ?? 'sliding'].map(name => name === 'log' ? 'sliding' : name) as [string, string]
  return [...notes, ...ranked(['sliding', 'bucket', 'fixed'], old, now, (one, other) => `counts by a ${other} window (${one} before)`)]
}

export function floodChanges (was: unknown, is: unknown): Note[] {
  const [before, after] = [was, is] as ({ max: number, timeWindow: number } | undefined)[]
  if (before === undefined) return after === undefined ? [] : [stronger('has a flood guard')]
  if (after === undefined) return [weaker('has no flood guard any more')]
  const [old, now] = [before, after].map(({ max, timeWindow }): Windows => [{ limit: max, ms: timeWindow }]) as [Windows, Windows]
  const text = `the flood guard lets ${after.max} in ${after.timeWindow} ms through (${before.max} in ${before.timeWindow} ms before)`
  return [isWithin(now, old) ? stronger(text) : weaker(text)]
}

/** Numbers that were raised or dropped. */
export function overloadChanges (was: unknown, is: unknown): Note[] {
  if (was === undefined || was === false) return is === undefined || is === false ? [] : [stronger('is refused when there is too much to do')]
  if (is === undefined || is === false) return [weaker('is no longer refused when there is too much to do')]
  const [before, after] = [was, is] as [Record<string, number>, Record<string, number>]
  const names = [...new Set([...Object.keys(before), ...Object.keys(after)])].filter(name => name !== 'retryAfter')
  return names.flatMap(name => {
    const [value = Infinity, now] = [before[name], after[name]]
    if (now === value) return []
    return [now === undefined || now > value ? weaker(`overload: ${name} is ${now ?? 'no longer looked at'} (${value} before)`) : stronger(`overload: ${name} is ${now} (${value === Infinity ? 'not looked at' : value} before)`)]
  })
}

function windowChanges (before: Promised, after: Promised): Note[] {
  const [old, now] = [audiencesOf(before), audiencesOf(after)]
  const names = [...new Set([...old.keys(), ...now.keys()])]
  const said = new Map<string, { is: Note['is'], of: string[] }>()
  for (const name of names) {
    const [was, is] = [old, now].map(audiences => audiences.get(name) ?? audiences.get('signed in')!) as [string, string]
    if (was === is) continue
    const isLower = isWithin(windowsOf(is), windowsOf(was))
    const text = `${isLower ? 'limit lowered' : 'limit raised'}: ${is} (${was} before)`
    const entry = said.get(text) ?? { is: isLower ? 'stronger' : 'weaker', of: [] }
    entry.of.push(name)
    said.set(text, entry)
  }
  return [...said].map(([text, { is, of }]) => ({ is, message: of.length === names.length ? text : `${text}, for ${of.map(name => /^plan /.test(name) ? name : `callers who are ${name}`).join(' and ')}` }))
}

/** Windows as text, by who is counted; divided by what a request costs. */
function audiencesOf ({ windows, address = windows, principal = windows, plans = {}, cost = 1 }: Promised): Map<string, string> {
  const text = (list: readonly string[] | false | undefined) => list === false || list === undefined ? UNLIMITED : `${list.join(' and ')}${cost === 1 ? '' : ` at a cost of ${cost}`}`
  return new Map([['anonymous', text(address)], ['signed in', text(principal)], ...Object.entries(plans).map(([plan, list]) => [`plan ${plan}`, text(list)] as const)])
}

function inWords (audiences: Map<string, string>): string {
  return [...new Set(audiences.values())].join(', ')
}

function windowsOf (text: string): Windows | null {
  if (text === UNLIMITED) return null
  const [, list = '', cost = '1'] = /^(.*?)(?: at a cost of (\d+))?$/.exec(text) ?? []
  return list.split(' and ').flatMap(one => {
    const window = parseWindow(one)
    return window === null ? [] : [{ limit: Math.floor(window.limit / Number(cost)), ms: window.ms }]
  })
}

/** Whoever keeps to `now` has kept to `before`, whatever they do. */
function isWithin (now: Windows | null, before: Windows | null): boolean {
  if (before === null) return true
  if (now === null) return false
  return before.every(old => now.some(one => one.limit * Math.max(1, Math.ceil(old.ms / one.ms)) <= old.limit))
}
