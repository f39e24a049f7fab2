/** Values of other types and beyond their bounds, fields that are missing, queries that nobody declared, card numbers. */
import type { Campaign, Exchange, Family } from '../campaign.js'
import { isSchema, type Schema } from '../../references.js'
import { pathOf } from '../objects.js'
import { READ, expressionOf, objectOf, placesIn, propertiesOf, typesOf, wrongValues, type Place } from '../schemas.js'
import type { Route } from '../surface.js'
import { tryMarkup, tryPasswords } from './texts.js'

const CARD = '4111 1111 1111 1111'
const LONG = 100_000
/** Of what is wrong with a field, as others than the first who may send it. */
const ONE_OF_EACH = 1
/** Requests that race for what is good once. */
const AT_ONCE = 5
/** Harmless, and their answer stands in none of them. */
const COMMANDS = [';expr 1931 \\* 7', '$(expr 1931 \\* 7)']
const CARRIED_OUT = '13517'

export const input: Family = {
  name: 'input',
  async lead (campaign) {
    for (const route of campaign.routes) {
      const [as, ...others] = await campaign.actors(route, [
        ...route.body !== null && READ.has(route.body.type) ? ['input.type', 'input.bounds', 'input.missing'] as const : [], ...route.querySchema !== null ? ['input.query'] as const : [], ...route.isOnce ? ['input.replay'] as const : [],
      ])
      if (as === undefined) continue
      if (route.body !== null && READ.has(route.body.type)) {
        await tryBody(campaign, route, as)
        for (const other of others) for (const place of placesIn(route.body.schema)) await tryPlace(campaign, route, other, place, ONE_OF_EACH)
      }
      if (route.querySchema !== null) await tryQuery(campaign, route, as)
      if (route.paramsSchema !== null) await tryParams(campaign, route, as)
      await tryInjection(campaign, route, as)
      await tryPasswords(campaign, route, as)
      await tryMarkup(campaign, route, as)
      await tryReplay(campaign, route, as)
    }
    campaign.notApplicable(['input.type', 'input.bounds', 'input.missing'], 'no route says what bodies it takes')
    campaign.notApplicable('input.query', 'no route says what query it takes')
    campaign.notApplicable('input.injection', 'no route says what it takes')
    campaign.notApplicable(['input.replay', 'input.race'], 'no route says that its body is good once')
    campaign.notApplicable('input.password', 'no route sets a password')
    campaign.notApplicable('input.markup', 'no route says that it takes HTML')
    campaign.notApplicable('input.card', 'no route looks for card numbers in a text')
  },
}

async function tryBody (campaign: Campaign, route: Route, as: string | null): Promise<void> {
  const { schema, type } = route.body!
  const isForm = type !== 'application/json'
  for (const place of placesIn(schema)) await tryPlace(campaign, route, as, place)
  const whole = isForm || campaign.isOff(route, 'input.type') ? [] : wrongValues(schema).filter(({ kind, isCoercible }) => kind === 'type' && (campaign.surface.strict || !isCoercible))
  for (const { what, value } of whole) {
    const shot = await campaign.ofOwn(route, as, () => value)
    if (typeof shot === 'string') break
    const exchange = await campaign.ask({ ...shot, isAllowed: true })
    campaign.check('input.type', exchange, isRefused(exchange), `400: the body is ${what}`)
  }
  await tryCard(campaign, route, as)
}

/** One object of a body: each of its fields with what is wrong there, and without those that must be. */
async function tryPlace (campaign: Campaign, route: Route, as: string | null, { path, schema, within }: Place, most = Infinity): Promise<void> {
  const isForm = route.body!.type !== 'application/json'
  /** Null where the valid body does not hold this object. */
  const send = async (change: (object: Record<string, unknown>) => unknown) => {
    let isThere = false
    const shot = await campaign.ofOwn(route, as, body => within(body, object => {
      isThere = true
      return change(object)
    }))
    return typeof shot === 'string' ? shot : isThere ? campaign.ask({ ...shot, isAllowed: true }) : null
  }
  for (const [name, part] of Object.entries(propertiesOf(schema))) {
    const wrong = wrongValues(part)
    for (const { kind, what, value, isCoercible } of (['type', 'bounds'] as const).flatMap(one => wrong.filter(({ kind }) => kind === one).slice(0, most))) {
      const id = kind === 'type' ? 'input.type' : 'input.bounds'
      // In a form everything is text, and an empty one is none.
      if (campaign.isOff(route, id) || (isForm && (kind === 'type' || typeof value !== 'string' || value.trim() === '')) || (!campaign.surface.strict && isCoercible)) continue
      const exchange = await send(object => ({ ...object, [name]: value }))
      if (exchange === null) return
      if (typeof exchange === 'string') return campaign.unproven(route, id, exchange)
      campaign.check(id, exchange, isRefused(exchange), `400: ${path}${name} is ${what}`, undefined, `${path}${name}`)
    }
  }
  for (const name of campaign.isOff(route, 'input.missing') ? [] : ((schema.required ?? []) as string[]).slice(0, most)) {
    const part = propertiesOf(schema)[name]
    // Where there is a default, Ajv puts it in.
    if (isSchema(part) && part.default !== undefined) continue
    const exchange = await send(object => Object.fromEntries(Object.entries(object).filter(([key]) => key !== name)))
    if (exchange === null || typeof exchange === 'string') return
    campaign.check('input.missing', exchange, isRefused(exchange), `400: ${path}${name} is missing`, undefined, `${path}${name}`)
  }
}

/** A statement that ends where a quotation mark stands, and is whole again with two; a command that is carried out. */
async function tryInjection (campaign: Campaign, route: Route, as: string | null): Promise<void> {
  if (campaign.isOff(route, 'input.injection')) return
  const shot = await campaign.ofOwn(route, as, body => body)
  if (typeof shot === 'string') return
  const [path = '', search = ''] = shot.path!.split('?')
  const inQuery = Object.keys(propertiesOf(route.querySchema)).map(name => (text: string) => {
    const query = new URLSearchParams(search)
    query.set(name, `${query.get(name) ?? ''}${text}`)
    return campaign.ask({ ...shot, path: `${path}?${query}`, isAllowed: true })
  })
  const isObject = route.body !== null && route.body.type === 'application/json'
  const texts = isObject ? Object.entries(propertiesOf(route.body!.schema)).filter(([, part]) => typesOf(part).includes('string')) : []
  const inBody = texts.map(([name]) => async (text: string) => {
    const filled = await campaign.ofOwn(route, as, body => ({ ...body as object, [name]: `${String((body as Record<string, unknown>)[name] ?? '')}${text}` }))
    return typeof filled === 'string' ? null : campaign.ask({ ...filled, isAllowed: true })
  })
  for (const send of [...inQuery, ...inBody]) {
    const one = await send("'")
    if (one === null) return
    const two = one.status >= 500 ? await send("''") : null
    campaign.check('input.injection', one, two === null || two.status >= 500, 'a quotation mark, as any other character', `${one.status}, and ${two?.status ?? ''} where there are two: it ends a text in a statement`)
    for (const command of COMMANDS) {
      const exchange = await send(command)
      campaign.check('input.injection', exchange!, !exchange!.text.includes(CARRIED_OUT), 'no command that is carried out', `${exchange!.status}, with what the command says`)
    }
  }
}

/** What is good once, twice; and another one several times at once. */
async function tryReplay (campaign: Campaign, route: Route, as: string | null): Promise<void> {
  if (!route.isOnce || campaign.isOff(route, 'input.replay')) return
  const shot = await campaign.valid(route, as)
  if (typeof shot === 'string') return campaign.unproven(route, 'input.replay', shot)
  const first = await campaign.ask({ ...shot, isAllowed: true })
  if (first.status >= 400) return campaign.unproven(route, 'input.replay', `a valid request was answered ${first.status}: give its body or values`)
  const second = await campaign.ask(shot)
  campaign.check('input.replay', second, second.status >= 400, 'a refusal: it was good once')
  if (second.status < 400 || campaign.isOff(route, 'input.race')) return
  const other = await campaign.valid(route, as)
  if (typeof other === 'string' || other.body === shot.body) return campaign.unproven(route, 'input.race', 'another valid body is needed: give a function in values or as the body')
  const taken = (await Promise.all(Array.from({ length: AT_ONCE }, () => campaign.ask(other)))).filter(({ status }) => status < 400)
  campaign.check('input.race', taken.at(-1) ?? second, taken.length <= 1, 'one success: it is good once', `${taken.length} of ${AT_ONCE} at once`)
}

async function tryCard (campaign: Campaign, route: Route, as: string | null): Promise<void> {
  if (!route.cards || campaign.isOff(route, 'input.card')) return
  const name = Object.entries(propertiesOf(route.body!.schema)).find(([, part]) => typesOf(part).includes('string') && part.pattern === undefined && part.format === undefined && (part.maxLength === undefined || Number(part.maxLength) > 30))?.[0]
  if (name === undefined) return
  const shot = await campaign.ofOwn(route, as, body => ({ ...body as object, [name]: `words words ${CARD} words words` }))
  if (typeof shot === 'string') return
  const exchange = await campaign.ask({ ...shot, isAllowed: true })
  campaign.check('input.card', exchange, isRefused(exchange), `400: ${name} holds a card number`)
}

async function tryQuery (campaign: Campaign, route: Route, as: string | null): Promise<void> {
  if (campaign.isOff(route, 'input.query')) return
  const shot = await campaign.valid(route, as)
  if (typeof shot === 'string') return
  const [path = '', search = ''] = shot.path!.split('?')
  const without = (name: string) => new URLSearchParams([...new URLSearchParams(search)].filter(([key]) => key !== name))
  const attempts: [what: string, query: string][] = []
  for (const [name, part] of Object.entries(propertiesOf(route.querySchema))) {
    // One that stands once is a list of one.
    const single = typesOf(part).includes('array') ? [part.items ?? {}].flat()[0] as Schema : part
    for (const { what, value } of wrongValues(single)) {
      // What comes in a query is a text, and a text that says the right thing is right.
      const isText = typesOf(single).includes('string')
      if (typeof value === 'object' || (isText && (typeof value !== 'string' || (!what.includes('characters') && !what.startsWith('no ') && !what.includes('pattern')))) || (!isText && (value === '1' || value === 'true' || value === true || typeof value === 'boolean'))) continue
      const query = without(name)
      query.set(name, String(value))
      attempts.push([`${name} is ${what}`, query.toString()])
    }
    const repeated = without(name)
    repeated.append(name, '1')
    repeated.append(name, '2')
    if (campaign.surface.strict && single === part) attempts.push([`${name} stands twice`, repeated.toString()])
  }
  const { additionalProperties } = objectOf(route.querySchema) ?? {}
  if (campaign.surface.strict && additionalProperties === false) attempts.push(['undeclared_by_anyone is not declared', `${search}${search === '' ? '' : '&'}undeclared_by_anyone=1`])
  for (const [what, query] of attempts) {
    const exchange = await campaign.ask({ ...shot, path: `${path}?${query}`, isAllowed: true })
    campaign.check('input.query', exchange, isRefused(exchange), `400: ${what}`)
  }
}

async function tryParams (campaign: Campaign, route: Route, as: string | null): Promise<void> {
  if (campaign.isOff(route, 'input.bounds')) return
  const properties = propertiesOf(route.paramsSchema)
  for (const param of route.params) {
    const { maxLength, pattern } = (properties[param] ?? {}) as { maxLength?: number, pattern?: string }
    const values = [...typeof maxLength === 'number' && maxLength < LONG ? ['x'.repeat(maxLength + 1)] : [], ...pattern === undefined ? [] : ["'", '<', ' '].filter(text => !expressionOf(pattern).test(text)).slice(0, 1)]
    for (const value of values) {
      const whole = pathOf(route.url, { [param]: value })
      const exchange = await campaign.ask({ route, as, path: whole, isAllowed: true })
      campaign.check('input.bounds', exchange, isRefused(exchange), `400: ${param} is beyond its bounds`)
    }
  }
}

function isRefused ({ status }: Exchange): boolean {
  return status >= 400 && status < 500
}
