/** What answers hold: what is declared and this caller may see, no text that was planted, nothing that looks like a hash or a key. Looks at every answer of every attack. */
import type { Campaign, Exchange, Family } from '../campaign.js'
import { isSafe } from '../callers.js'
import { NOBODY_PASSES } from '../ledger.js'
import { codingsOf, readingsOf, wayIn } from '../readings.js'
import { branchesOf, takesAny } from '../schemas.js'
import { isSchema, type Schema } from '../../references.js'

const SECRET_VALUES = [/\$argon2(?:id|i|d)\$/, /\$2[abxy]\$\d\d\$[./A-Za-z0-9]{20}/, /\$scrypt\$/, /-----BEGIN [A-Z ]*PRIVATE KEY-----/, /"(?:d|dp|dq|qi)":"[\w-]{30,}"/]
const SECRET_NAME = /^(?:password|passwd|pass(?:word)?_?(?:hash|digest|salt)|hash|salt|(?:totp_?|mfa_?|client_?)?secret|private_?key|ssn|cvv|cvc|card_?number|reset_?token)$/i
const OWNER = 'owner'

/** Of canaries, how else they may be written. */
const coded = new WeakMap<Campaign, readonly string[][]>()

interface Fault { id: 'exposure.undeclared' | 'exposure.hidden', path: string }

export const exposure: Family = {
  name: 'exposure',
  async lead (campaign) {
    // What the matrix has asked is not asked again.
    if (!campaign.has('authorization')) {
      for (const route of campaign.routes) {
        if (!isSafe(route.method)) continue
        for (const as of await campaign.passing(route)) {
          for (const whose of ['own', 'any', 'foreign'] as const) {
            const shot = await campaign.valid(route, as, whose)
            if (typeof shot !== 'string') await campaign.ask({ ...shot, isAllowed: true })
            if (route.params.length === 0) break
          }
        }
      }
    }
    for (const route of campaign.routes) {
      if (route.answers !== null && !route.isGone && (await campaign.passing(route)).length === 0) campaign.unproven(route, 'exposure.undeclared', NOBODY_PASSES)
    }
    if ((campaign.options.canaries ?? []).length === 0) campaign.notApplicable('exposure.canary', 'no canaries were planted')
    campaign.notApplicable('exposure.undeclared', 'no route says what it answers')
    campaign.notApplicable('exposure.hidden', 'no answer has fields that some may not see')
  },
  observe (campaign, exchange) {
    lookForPlanted(campaign, exchange)
    lookAtFields(campaign, exchange)
  },
}

function lookForPlanted (campaign: Campaign, exchange: Exchange): void {
  const { headers, text, sent, status } = exchange
  const { canaries = [] } = campaign.options
  let codings = coded.get(campaign)
  if (codings === undefined) coded.set(campaign, codings = canaries.map(codingsOf))
  const [said, known] = canaries.length === 0 ? [[], []] : [readingsOf(`${JSON.stringify(headers)}\n${text}`), readingsOf(`${sent.path}\n${JSON.stringify(sent.headers)}\n${String(sent.body ?? '')}`)]
  for (const [i, canary] of canaries.entries()) {
    // Whoever sends it knows it.
    if (wayIn(known, canary, codings[i]) !== null) continue
    const way = wayIn(said, canary, codings[i])
    campaign.check('exposure.canary', exchange, way === null, 'nothing of what was planted', `${status}, with ${canary.slice(0, 4)}…${way === 'as it is' ? '' : `, ${way}`}`)
  }
  campaign.check('exposure.secret', exchange, !SECRET_VALUES.some(pattern => pattern.test(text)), 'no hash and no private key', `${exchange.status}, with one`)
}

function lookAtFields (campaign: Campaign, exchange: Exchange): void {
  const { shot: { route }, status, sent, isCut } = exchange
  const json = exchange.json ?? looseJson(exchange)
  if (route !== null && status < 400 && isCut && json === undefined && route.answers instanceof Map && /json/.test(String(exchange.headers['content-type']))) campaign.unproven(route, 'exposure.undeclared', 'the answer is too long to be read')
  if (route === null || status >= 400 || json === undefined || (sent.method !== route.method && sent.method !== 'HEAD')) return
  if (route.answers === null || route.answers === 'raw') {
    if (route.answers === null) {
      const secret = namesIn(json).find(name => SECRET_NAME.test(name))
      campaign.check('exposure.secret', exchange, secret === undefined, 'no field of a secret', `${status}, with ${secret}`)
    }
    return
  }
  const schema = route.answers.get(String(status)) ?? route.answers.get(`${String(status)[0]}xx`) ?? route.answers.get('default')
  if (schema === undefined) {
    campaign.check('exposure.undeclared', exchange, false, 'a status that is declared', `${status}, which is not declared`)
    return
  }
  const faults: Fault[] = []
  let hides = false
  const content = contentOf(schema, exchange)
  // Of lines each is one of what is declared, or of the items of a list that is.
  if (isOfLines(exchange)) for (const line of json as unknown[]) walk(line, content.flatMap(one => [one.items ?? one].flat() as Schema[]), '', true)
  else walk(json, content, '', false)
  const undeclared = faults.find(({ id }) => id === 'exposure.undeclared')
  campaign.check('exposure.undeclared', exchange, undeclared === undefined, 'declared fields alone', `${status}, with ${undeclared?.path}`)
  const hidden = faults.find(({ id }) => id === 'exposure.hidden')
  if (hides) campaign.check('exposure.hidden', exchange, hidden === undefined, 'what this caller may see', `${status}, with ${hidden?.path}`)

  /** @param candidates schemas, any of which may describe the value */
  function walk (value: unknown, candidates: readonly Schema[], path: string, inList: boolean): void {
    const branches = candidates.flatMap(branchesOf)
    for (const branch of branches) for (const part of Object.values(branch.properties ?? {})) if (isSchema(part) && part.visibleTo !== undefined) hides = true
    if (typeof value !== 'object' || value === null || branches.length === 0 || branches.some(isOpen)) return
    if (Array.isArray(value)) {
      for (const item of value) walk(item, branches.flatMap(({ items }) => [items ?? []].flat() as Schema[]), `${path}/items`, true)
      return
    }
    for (const [name, part] of Object.entries(value)) {
      const declared = branches.flatMap(({ properties }) => (properties as Record<string, Schema> | undefined)?.[name] ?? [])
      const others = branches.flatMap(({ additionalProperties, patternProperties }) => [additionalProperties, ...Object.values((patternProperties ?? {}) as object)]).filter(one => one !== undefined && one !== false)
      if (declared.length === 0 && others.length === 0) faults.push({ id: 'exposure.undeclared', path: `${path}/${name}` })
      else if ((declared as Schema[]).some(one => !isVisible(one, inList))) faults.push({ id: 'exposure.hidden', path: `${path}/${name}` })
      else if (!others.includes(true)) walk(part, [...declared as Schema[], ...others.filter(isSchema)], `${path}/${name}`, inList || declared.length === 0)
    }
  }

  function isVisible ({ visibleTo }: Schema, inList: boolean): boolean {
    if (visibleTo === undefined) return true
    const { caller, shot: { isOwn } } = exchange
    return ([visibleTo].flat() as string[]).some(sight => sight === OWNER ? !inList && isOwn !== false : caller !== null && campaign.judge.can(caller.principal, sight))
  }
}

function contentOf (schema: unknown, { headers }: Exchange): Schema[] {
  if (!isSchema(schema)) return []
  if (!isSchema(schema.content)) return [schema]
  const [type = ''] = String(headers['content-type']).split(';')
  const part = (schema.content[type.trim()] ?? Object.values(schema.content)[0]) as { schema?: Schema } | undefined
  return part?.schema === undefined ? [] : [part.schema]
}

/** Says nothing of what is in it. */
function isOpen (schema: Schema): boolean {
  return schema.open !== undefined || schema.allOf !== undefined || takesAny(schema)
}

function isOfLines ({ headers }: Exchange): boolean {
  return /ndjson|jsonl|json-seq/.test(String(headers['content-type']))
}

/** What is JSON, and does not say so or is several; undefined where it is none. */
function looseJson (exchange: Exchange): unknown {
  const { text, headers, isCut } = exchange
  if (isCut || (!isOfLines(exchange) && (!/^\s*[[{]/.test(text) || /html|event-stream/.test(String(headers['content-type']))))) return undefined
  try {
    return isOfLines(exchange) ? text.split('\n').filter(line => line.trim() !== '').map(line => JSON.parse(line) as unknown) : JSON.parse(text)
  } catch {
    return undefined
  }
}

function namesIn (value: unknown): string[] {
  if (typeof value !== 'object' || value === null) return []
  return Array.isArray(value) ? value.flatMap(namesIn) : Object.entries(value).flatMap(([name, part]) => [name, ...namesIn(part)])
}
