/**
 * Mass assignment: fields that a body does not declare, above all those that other schemas of the service do, and those that name prototypes.
 * Where a service drops such fields in silence, what counts is whether one had an effect: whether an answer shows it.
 */
import type { Campaign, Exchange, Family } from '../campaign.js'
import { isSafe } from '../callers.js'
import { objectOf, propertiesOf, typesOf, valueOf } from '../schemas.js'
import { isSchema, type Schema } from '../../references.js'
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
const JSON_TYPE = 'application/json'
const READ: ReadonlySet<string> = new Set([JSON_TYPE, 'application/x-www-form-urlencoded'])
const PROTOTYPES = ['{"__proto__":{"polluted":"by-attack"},', '{"constructor":{"prototype":{"polluted":"by-attack"}},', '{"prototype":{"polluted":"by-attack"},', '{"__proto__":null,']

export const assignment: Family = {
  name: 'assignment',
  async lead (campaign) {
    const others = otherFields(campaign.surface.routes)
    for (const route of campaign.routes) {
      if (route.body === null || objectOf(route.body.schema) === null || !READ.has(route.body.type)) continue
      const as = await campaign.actor(route, ['assignment.undeclared', 'assignment.prototype'])
      if (as === undefined) continue
      await tryFields(campaign, route, as, others)
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
    return typeof value === 'string' ? 'attacker-value' : value
  } catch {
    return 'attacker-value'
  }
}

async function tryFields (campaign: Campaign, route: Route, as: string | null, others: ReadonlyMap<string, unknown>): Promise<void> {
  const id = 'assignment.undeclared'
  if (campaign.isOff(route, id)) return
  const declared = propertiesOf(route.body!.schema)
  // Unions declare what any of their branches does.
  const known = new Set(JSON.stringify(route.body!.schema).match(/"([^"]+)":/g)?.map(text => text.slice(1, -2)))
  const names = [...new Set([...Object.keys(SENSITIVE), ...campaign.random.some([...others.keys()].filter(name => !Object.hasOwn(SENSITIVE, name)), campaign.options.fields ?? 40)])].filter(name => !known.has(name))
  const inside = Object.keys(declared).filter(name => objectOf(declared[name]) !== null)
  const attempts: [what: string, value: unknown, change: (body: unknown) => unknown][] = [
    ...names.slice(0, campaign.options.fields ?? 40).map((name): [string, unknown, (body: unknown) => unknown] => {
      const value = SENSITIVE[name] ?? others.get(name) ?? 'attacker-value'
      return [name, value, body => ({ ...body as object, [name]: value })]
    }),
    ...inside.map((name): [string, unknown, (body: unknown) => unknown] => [`${name}.undeclared_by_anyone`, true, body => ({ ...body as object, [name]: { ...(body as Record<string, object>)[name], undeclared_by_anyone: true } })]),
  ]
  for (const [what, value, change] of attempts) {
    const shot = await campaign.ofOwn(route, as, change)
    if (typeof shot === 'string') return campaign.unproven(route, id, shot)
    const exchange = await campaign.ask({ ...shot, isAllowed: true })
    // Of forms those who read them take what they know, and say nothing of the rest (RFC 6749, 3.1).
    if (campaign.surface.strict && route.body!.type === JSON_TYPE) campaign.check(id, exchange, exchange.status >= 400, `400: ${what} is not declared`)
    else campaign.check(id, exchange, !await hasEffect(campaign, route, exchange, what, value), `${what} refused, or without effect`, `${exchange.status}, and ${what} is ${JSON.stringify(value)} now`)
  }
}

/** The answer, or what a GET of the same object answers, shows the value. */
async function hasEffect (campaign: Campaign, route: Route, { status, json, shot }: Exchange, name: string, value: unknown): Promise<boolean> {
  if (status >= 400) return false
  if (holds(json, name, value)) return true
  const reading = campaign.surface.routes.find(({ method, url }) => method === 'GET' && url === route.url)
  if (reading === undefined || isSafe(route.method)) return false
  const after = await campaign.ask({ route: reading, as: shot.as ?? null, path: shot.path!.split('?')[0]! })
  return holds(after.json, name, value)
}

function holds (answer: unknown, name: string, value: unknown): boolean {
  if (typeof answer !== 'object' || answer === null) return false
  return Object.entries(answer).some(([key, part]) => (key === name && JSON.stringify(part) === JSON.stringify(value)) || holds(part, name, value))
}

async function tryPrototypes (campaign: Campaign, route: Route, as: string | null): Promise<void> {
  const id = 'assignment.prototype'
  if (campaign.isOff(route, id) || route.body!.type !== JSON_TYPE) return
  for (const opening of PROTOTYPES) {
    const shot = await campaign.ofOwn(route, as, body => body)
    if (typeof shot === 'string') return campaign.unproven(route, id, shot)
    const text = String(shot.body)
    const exchange = await campaign.ask({ ...shot, isAllowed: true, body: text === '{}' ? `${opening.slice(0, -1)}}` : opening + text.slice(1) })
    const isPolluted = Object.hasOwn(Object.prototype, 'polluted')
    if (isPolluted) delete (Object.prototype as { polluted?: unknown }).polluted
    campaign.check(id, exchange, !isPolluted && (campaign.surface.strict ? exchange.status >= 400 : exchange.status >= 400 || !exchange.text.includes('by-attack')), '400: the field names the prototype of objects', isPolluted ? 'every object of the process was changed' : undefined)
  }
}
