/**
 * What no report may hold: the credentials that were brought and those that were made of them, by their values, wherever they stand. Each is told of by a variable of the shell,
 * named after who brought it and the header (`$ADA_AUTHORIZATION`); a part of one by a part of that (`${ADA_AUTHORIZATION:7:20}`), so that what was forged is made of it again.
 */
import { isSecret } from '../log.js'
import { headersOf } from './callers.js'
import type { AttackOptions, Principal, RefusedPrincipal } from './contract.js'

/** Of a text: itself, or the variable that stands for it. */
export type Part = string | { variable: string, form: string }

interface Credential {
  value: string
  /** All of it, as it may be written; made when somebody looks for it. */
  written?: readonly Written[]
  /** Parts of it are told of, too, from here on; null: only all of it. */
  from: number | null
}

interface Written { text: string, variable: string, form: string }

interface Hit { at: number, length: number, variable: string, form: string }

/** Characters of a part: of fewer, nothing can be made. */
const PART = 8
/** Characters: of fewer, a text is no secret wherever it stands. */
const SHORTEST = 4
/** Values of one variable that are known: those of callers are made again and again. */
const KEPT = 50
const DEPTH = 6
/** What lets in once, as a second factor or a link does. */
const CODE = /^(?:(?:recovery|backup|mfa|totp|otp|auth|login|verification|confirmation|one_?time)_?)?(?:code|otp|totp|pin)$/i
/** Of headers, those that prove nothing. */
const PLAIN = /^(?:host|forwarded|x-forwarded-.*|x-real-ip|accept(?:-.*)?|content-type|user-agent|origin|referer|sec-.*|x-request-id)$/i

export class Mask {
  readonly #known = new Map<string, Credential[]>()
  /** Which variable is whose, by what it is named after. */
  readonly #variables = new Map<string, string>()

  constructor ({ headers = {}, refused = {}, canaries = [], routes = {} }: AttackOptions) {
    this.#ofHeaders('', headers)
    for (const hints of Object.values(routes)) this.#ofHeaders('', hints.headers ?? {})
    for (const [fault, given] of Object.entries(refused)) for (const [i, one] of ([given].flat() as RefusedPrincipal[]).entries()) this.ofPrincipal(`${fault} ${i + 1}`, one)
    for (const [i, canary] of canaries.entries()) this.add(`canary ${i + 1}`, canary)
  }

  /** @param name by which it is told of */
  add (name: string, value: string, from: number | null = null): void {
    if (value.length < SHORTEST) return
    const variable = this.#variableOf(name)
    const all = this.#known.get(variable) ?? []
    const known = all.find(one => one.value === value)
    // Most are told of again with every request that they are in.
    if (known !== undefined && known === all[0] && known.from === from) return
    this.#known.set(variable, [{ ...known, value, from }, ...all.filter(one => one !== known)].slice(0, KEPT))
  }

  ofPrincipal (name: string, principal: Principal): void {
    this.#ofHeaders(`${name} `, headersOf(principal, 'POST'))
  }

  /** What stands under names of secrets, at any depth: of values, and of bodies that were given. */
  ofFields (value: unknown, name = '', depth = DEPTH): void {
    if (typeof value === 'object' && value !== null) {
      if (depth > 0 && !Buffer.isBuffer(value)) for (const [key, part] of Object.entries(value)) this.ofFields(part, Array.isArray(value) ? name : key, depth - 1)
    } else if (name !== '' && (isSecret(name) || CODE.test(name))) this.add(name, String(value))
    else if (name === '' && typeof value === 'string') this.#ofText(value, depth)
  }

  /** The text, with a variable wherever a credential stands. */
  text (text: string): string {
    return this.parts(text).map((part, i, all) => typeof part === 'string' ? part : expanded(part, all[i + 1])).join('')
  }

  parts (text: string): Part[] {
    const hit = this.#longestIn(text)
    if (hit === null) return text === '' ? [] : [text]
    return [...this.parts(text.slice(0, hit.at)), { variable: hit.variable, form: hit.form }, ...this.parts(text.slice(hit.at + hit.length))]
  }

  #ofHeaders (whose: string, headers: Readonly<Record<string, string>>): void {
    for (const [name, value] of Object.entries(headers)) {
      if (PLAIN.test(name)) continue
      const text = /^authorization$/i.test(name) ? value.replace(/^\S+ /, '') : value
      // What a token begins with says how it is signed, and no more.
      this.add(`${whose}${name}`, text, /^cookie$/i.test(name) ? null : /^eyJ[^.]*\.[^.]+\.[^.]*$/.test(text) ? text.indexOf('.') + 1 : 0)
      if (/^cookie$/i.test(name)) for (const [key = '', ...rest] of text.split('; ').map(pair => pair.split('='))) this.add(`${whose}${name} ${key}`, rest.join('='), 0)
    }
  }

  #ofText (text: string, depth: number): void {
    try {
      this.ofFields(JSON.parse(text), '', depth - 1)
    } catch {
      this.ofFields(Object.fromEntries(new URLSearchParams(text)), '', depth - 1)
    }
  }

  #variableOf (name: string): string {
    const plain = name.toUpperCase().replace(/[^A-Z0-9]+/g, '_').replace(/^(?=\d)/, '_')
    for (let variable = plain, n = 2; ; variable = `${plain}_${n++}`) {
      const taken = this.#variables.get(variable)
      if (taken !== undefined && taken !== name) continue
      this.#variables.set(variable, name)
      return variable
    }
  }

  #longestIn (text: string): Hit | null {
    let best: Hit | null = null
    const isBetter = (hit: Hit) => hit.length > (best?.length ?? 0)
    const places = new Map<string, number[]>()
    for (let i = 0; i + PART <= text.length; i++) {
      const at = places.get(text.slice(i, i + PART))
      if (at === undefined) places.set(text.slice(i, i + PART), [i])
      else at.push(i)
    }
    for (const [variable, credentials] of this.#known) {
      for (const credential of credentials) {
        const { value, from } = credential
        credential.written ??= writtenAs(value, variable)
        for (const { text: one, variable, form } of credential.written) {
          const hit = { at: text.indexOf(one), length: one.length, variable, form }
          if (hit.at !== -1 && isBetter(hit)) best = hit
        }
        if (from === null || places.size === 0) continue
        for (const hit of partsIn(text, variable, value, from, places)) if (isBetter(hit)) best = hit
      }
    }
    return best
  }
}

function writtenAs (value: string, variable: string): Written[] {
  // A body is looked at byte by byte.
  const both = [...new Set([value, Buffer.from(value).toString('latin1')])]
  return [
    ...both.map(text => ({ variable, form: '', text })),
    ...value.length < PART ? [] : [{ variable, form: '^^', text: value.toUpperCase() }, { variable, form: ',,', text: value.toLowerCase() }],
    { variable: `${variable}_URL`, form: '', text: encodeURIComponent(value) },
    { variable: `${variable}_FORM`, form: '', text: new URLSearchParams({ '': value }).toString().slice(1) },
    ...both.map(text => ({ variable: `${variable}_JSON`, form: '', text: JSON.stringify(text).slice(1, -1) })),
  ]
}

function partsIn (text: string, variable: string, value: string, from: number, places: ReadonlyMap<string, readonly number[]>): Hit[] {
  const found: Hit[] = []
  for (let start = from; start + PART <= value.length; start++) {
    let longest = 0
    for (const at of places.get(value.slice(start, start + PART)) ?? []) {
      let length = PART
      while (start + length < value.length && value[start + length] === text[at + length]) length += 1
      found.push({ at, length, variable, form: start + length === value.length ? `:${start}` : `:${start}:${length}` })
      longest = Math.max(longest, length)
    }
    // What begins later and ends there is shorter.
    start += Math.max(0, longest - PART)
  }
  return found
}

/** As bash reads it, in a text or between double quotes. */
export function expanded ({ variable, form }: Exclude<Part, string>, next: Part | undefined): string {
  return form !== '' || (typeof next === 'string' && /^\w/.test(next)) ? `\${${variable}${form}}` : `$${variable}`
}
