/**
 * Mass assignment: fields that a body does not declare, above all those that other schemas of the service do, and those that name prototypes.
 * Where a service drops such fields in silence, what counts is whether one had an effect: whether an answer shows it.
 */
import type { Campaign, Exchange, Family } from '../campaign.js'
import { isSafe } from '../callers.js'
import { READ, branchesOf, objectOf, placesIn, propertiesOf, takesOthers, typesOf, valueOf } from '../schemas.js'
import { isSchema, type Schema } from '../../references.js'
import { matches } from '../paths.js'
import type { Route } from '../surface.js'

/** What attackers try first, with what they would have it be. */
const SENSITIVE: Readonly<Record<string, unknown>> = {
  role: 'admin',
  roles: ['admin'],
  isAdmin: true,
  is_admin: true,
  admin: true,
  permissions: ['*'],
  scopes: ['*'],
  id: 'attacker-1',
  userId: 'attacker-1',
  user_id: 'attacker-1',
  ownerId: 'attacker-1',
  owner_id: 'attacker-1',
  authorId: 'attacker-1',
  balance: 987_654,
  plan: 'attacker-plan',
  verified: true,
  emailConfirmed: true,
  isActive: true,
  price: 0.01,
  total: 0.01,
  status: 'paid',
  passwordHash: 'attacker-hash',
  password_hash: 'attacker-hash',
  createdAt: '1999-09-09T09:09:09.000Z',
}
const MARK = 'attacker-value'
/** Fields that are tried, where nobody says how many; and as others than the first who may send them. */
const MOST = 40
const FEW = 8
const JSON_TYPE = 'application/json'
const PROTOTYPES = ['{"__proto__":{"polluted":"by-attack"},', '{"constructor":{"prototype":{"polluted":"by-attack"}},', '{"prototype":{"polluted":"by-attack"},', '{"__proto__":null,']

export const assignment: Family = {
  name: 'assignment',
  async lead (campaign) {
    const others = otherFields(campaign.surface.routes)
    for (const route of campaign.routes) {
      if (route.body === null || (objectOf(route.body.schema) === null && placesIn(route.body.schema).length === 0) || !READ.has(route.body.type)) continue
      const [as, ...otherKinds] = await campaign.actors(route, ['assignment.undeclared', 'assignment.prototype'])
      if (as === undefined) continue
      await tryFields(campaign, route, as, others, campaign.options.fields ?? MOST)
      for (const other of otherKinds) await tryFields(campaign, route, other, others, Math.min(campaign.options.fields ?? MOST, FEW))
      await tryPrototypes(campaign, route, as)
    }
    campaign.notApplicable(['assignment.undeclared', 'assignment.prototype'], 'no route says what bodies it takes')
  },
}

/** Every field that some schema names, with a value of its type. */
function otherFields (routes: readonly Route[]): ReadonlyMap<string, unknown> {
  const found = new Map<string, unknown>()
  const look = (schema: unknown, depth: number): void => {
    if (!isSchema(schema) || depth > 6) return
    for (const [name, part] of Object.entries(propertiesOf(schema))) {
      if (!found.has(name)) found.set(name, Object.hasOwn(SENSITIVE, name) ? SENSITIVE[name] : fittingValue(part))
      look(part, depth + 1)
    }
    for (const part of [schema.items ?? []].flat()) look(part, depth + 1)
  }
  for (const { body, answers } of routes) {
    look(body?.schema, 0)
    if (answers instanceof Map) for (const [status, schema] of answers) if (!/^[45]/.test(status)) look(schema, 0)
  }
  return found
}

function fittingValue (schema: Schema): unknown {
  const [type] = typesOf(schema)
  if (type === 'integer' || type === 'number') return 987_654
  if (type === 'boolean') return true
  try {
    const value = valueOf(schema)
    return typeof value === 'string' ? MARK : value
  } catch {
    return MARK
  }
}

/** Fields that it does not declare: on the body, where it is a list on each of its items, and one on each object inside. */
async function tryFields (campaign: Campaign, route: Route, as: string | null, others: ReadonlyMap<string, unknown>, most: number): Promise<void> {
  const id = 'assignment.undeclared'
  if (campaign.isOff(route, id)) return
  const { schema, type } = route.body!
  // Of forms those who read them take what they know, and say nothing of the rest (RFC 6749, 3.1).
  const mustRefuse = campaign.surface.strict && type === JSON_TYPE
  const usual = mustRefuse ? [] : await usualAnswers(campaign, route, as)
  // Unions declare what any of their branches does.
  const known = new Set(JSON.stringify(schema).match(/"([^"]+)":/g)?.map(text => text.slice(1, -2)))
  const names = [...new Set([...Object.keys(SENSITIVE), ...campaign.random.some([...others.keys()].filter(name => !Object.hasOwn(SENSITIVE, name)), most)])].filter(name => !known.has(name))
  const [top, ...inside] = placesIn(schema)
  const within = top?.within ?? ((body: unknown, change: (object: Record<string, unknown>) => unknown) => change(body as Record<string, unknown>))
  const declared = top?.schema ?? objectOf(schema)!
  const attempts: [what: string, value: unknown, change: (body: unknown) => unknown][] = [
    ...(takesOthers(declared) ? [] : names.slice(0, most)).map((name): [string, unknown, (body: unknown) => unknown] => {
      const wanted = SENSITIVE[name] ?? others.get(name) ?? MARK
      const value = usual.some(answer => holds(answer, name, wanted)) ? otherThan(wanted) : wanted
      return [name, value, body => within(body, object => ({ ...object, [name]: value }))]
    }),
    ...inside.filter(place => !takesOthers(place.schema)).map((place): [string, unknown, (body: unknown) => unknown] => [`${place.path}undeclared_by_anyone`, MARK, body => place.within(body, object => ({ ...object, undeclared_by_anyone: MARK }))]),
  ]
  for (const [what, value, change] of attempts) {
    const shot = await campaign.ofOwn(route, as, change)
    if (typeof shot === 'string') return campaign.unproven(route, id, shot)
    // The valid body holds no such object.
    if (!String(shot.body).includes(what.split('.').at(-1)!)) continue
    const exchange = await campaign.ask({ ...shot, isAllowed: true })
    if (mustRefuse) {
      campaign.check(id, exchange, exchange.status >= 400, `400: ${what} is not declared`)
      continue
    }
    const seen = await seenAfter(campaign, exchange)
    if (!seen.some(answer => answer === null || showsSome(answer, declared))) return campaign.unproven(route, id, `no answer shows what became of ${what}`)
    campaign.check(id, exchange, !seen.some(answer => holds(answer, what.split('.').at(-1)!, value)), `${what} refused, or without effect`, `${exchange.status}, and ${what} is ${JSON.stringify(value)} now`)
  }
}

/** What is answered where nothing is undeclared: what stands there anyway is no effect. */
async function usualAnswers (campaign: Campaign, route: Route, as: string | null): Promise<unknown[]> {
  const shot = await campaign.ofOwn(route, as)
  return typeof shot === 'string' ? [] : seenAfter(campaign, await campaign.ask({ ...shot, isAllowed: true }))
}

function otherThan (value: unknown): unknown {
  return typeof value === 'boolean' ? !value : typeof value === 'number' ? value + 1 : Array.isArray(value) ? [MARK] : MARK
}

/** What shows the object that was changed: the answer, and what a GET of it answers. A refusal shows that there is none. */
async function seenAfter (campaign: Campaign, { status, json, headers, shot, sent }: Exchange): Promise<unknown[]> {
  const { route } = shot
  if (status >= 400) return [null]
  const seen: unknown[] = typeof json === 'object' && json !== null && Object.keys(json).length > 0 ? [json] : []
  if (route === null || isSafe(sent.method)) return seen
  const made = typeof json === 'object' && json !== null ? json as Record<string, unknown> : {}
  const own = sent.path.split('?')[0]!
  const paths = new Set([...typeof headers.location === 'string' && headers.location.startsWith('/') ? [headers.location] : [], own, ...Object.entries(made).filter(([name]) => /^id$|Id$|_id$/.test(name)).map(([, id]) => `${own}/${encodeURIComponent(String(id))}`)])
  for (const path of paths) {
    const reading = campaign.routes.find(({ method, url }) => method === 'GET' && matches(url, path))
    const after = reading === undefined ? null : await campaign.ask({ route: reading, as: shot.as ?? null, path, ...shot.isOwn !== undefined && { isOwn: shot.isOwn } })
    if (after !== null && after.status < 300 && after.json !== undefined) seen.push(after.json)
  }
  return seen
}

/** Of what the body declares. */
function showsSome (answer: unknown, { properties = {} }: Schema): boolean {
  const text = JSON.stringify(answer)
  return Object.keys(properties as object).some(name => text.includes(`"${name}":`))
}

function holds (answer: unknown, name: string, value: unknown): boolean {
  if (typeof answer !== 'object' || answer === null) return false
  return Object.entries(answer).some(([key, part]) => (key === name && JSON.stringify(part) === JSON.stringify(value)) || holds(part, name, value))
}

async function tryPrototypes (campaign: Campaign, route: Route, as: string | null): Promise<void> {
  const id = 'assignment.prototype'
  if (campaign.isOff(route, id) || route.body!.type !== JSON_TYPE) return
  // What takes any field may well answer it.
  const mayShow = branchesOf(route.body!.schema).some(takesOthers)
  for (const opening of PROTOTYPES) {
    const shot = await campaign.ofOwn(route, as, body => body)
    if (typeof shot === 'string') return campaign.unproven(route, id, shot)
    const exchange = await campaign.ask({ ...shot, isAllowed: true, body: String(shot.body).replace(/\{(\}?)/, (_all, end: string) => end === '' ? opening : `${opening.slice(0, -1)}}`) })
    const isPolluted = Object.hasOwn(Object.prototype, 'polluted')
    if (isPolluted) delete (Object.prototype as { polluted?: unknown }).polluted
    campaign.check(id, exchange, !isPolluted && (exchange.status >= 400 || (!campaign.surface.strict && (mayShow || !exchange.text.includes('by-attack')))), '400: the field names the prototype of objects', isPolluted ? 'every object of the process was changed' : undefined)
  }
}
