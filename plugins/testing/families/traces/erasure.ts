/** Erasure: what somebody plants wherever they may write, and whether it is stored still when they are gone. */
import type { Campaign } from '../../campaign.js'
import { isSafe } from '../../callers.js'
import { isSecret } from '../../../log.js'
import { expressionOf, propertiesOf, typesOf } from '../../schemas.js'
import type { Schema } from '../../../references.js'
import type { Route } from '../../surface.js'
import { seenBy, textsOf } from '../../witnesses.js'

const ID = 'traces.erased'
/** Milliseconds in which what is erased beside the answer is gone. */
const GONE_MS = 2000

interface Planted { route: Route, mark: string }

export async function tryErasure (campaign: Campaign): Promise<void> {
  for (const route of campaign.routes) {
    if (!route.erases || campaign.isOff(route, ID)) continue
    const as = (await campaign.passing(route)).find(name => name !== null)
    if (as === undefined) campaign.unproven(route, ID, 'nobody is known who may call it')
    else await campaign.together(() => eraseAndLook(campaign, route, as))
  }
}

async function eraseAndLook (campaign: Campaign, route: Route, as: string): Promise<void> {
  const stored = async () => (await textsOf(campaign.options.witnesses!, 'stored'))!.join('\n')
  const sent: Planted[] = []
  for (const other of campaign.routes) sent.push(...await plantBy(campaign, other, as))
  const before = await stored()
  const planted = sent.filter(({ mark }) => before.includes(mark))
  if (planted.length === 0) return campaign.unproven(route, ID, `nothing that ${as} sends is stored as it was sent`)
  const shot = await campaign.ofOwn(route, as)
  if (typeof shot === 'string') return campaign.unproven(route, ID, shot)
  const exchange = await campaign.ask(shot)
  if (exchange.status >= 400) return campaign.unproven(route, ID, `a valid request was answered ${exchange.status}: give its body or values`)
  const left = async () => {
    const now = await stored()
    return planted.filter(({ mark }) => now.includes(mark))
  }
  const found = await seenBy(left, rest => rest.length === 0, GONE_MS)
  const from = [...new Set(found.map(({ route: { name } }) => name))].join(', ')
  campaign.check(ID, exchange, found.length === 0, `nothing of what ${as} wrote`, `${found.length} of ${planted.length} texts are stored still: what was sent to ${from}`)
}

/** Writes a mark into every text that a route takes; where that is refused, into one at a time. */
async function plantBy (campaign: Campaign, route: Route, as: string): Promise<Planted[]> {
  if (isSafe(route.method) || route.erases || route.isGone || route.access === 'public' || route.access === null || route.body?.type !== 'application/json') return []
  if (campaign.judge.verdictOn(route, await campaign.callers.get(as)).passes !== true || campaign.isOff(route, ID)) return []
  const fields = Object.entries(propertiesOf(route.body.schema)).filter(([name, part]) => !isSecret(name) && markedText('mark123456', part) !== null)
  if (fields.length === 0) return []
  const plant = async (some: typeof fields) => {
    const mark = `mark${campaign.random.text(6)}`
    const shot = await campaign.ofOwn(route, as, body => ({ ...body as object, ...Object.fromEntries(some.map(([name, part]) => [name, markedText(mark, part)])) }))
    if (typeof shot === 'string') return []
    const { status } = await campaign.ask(shot)
    return status < 300 ? [{ route, mark }] : []
  }
  const all = await plant(fields)
  if (all.length > 0 || fields.length === 1) return all
  const found: Planted[] = []
  for (const field of fields) found.push(...await plant([field]))
  return found
}

/** A text that fits and holds the mark; null where none does. */
function markedText (mark: string, schema: Schema): string | null {
  const { pattern, format, minLength = 0, maxLength = Infinity, enum: listed, const: fixed } = schema as { pattern?: string, format?: string, minLength?: number, maxLength?: number, enum?: unknown, const?: unknown }
  if (!typesOf(schema).includes('string') || listed !== undefined || fixed !== undefined) return null
  const [email, link] = [`${mark}@people.example`, `https://example.com/${mark}`]
  const texts = format === 'email' ? [email] : format === 'uri' || format === 'url' ? [link] : format !== undefined ? [] : [mark, `${mark} and some more words of a text`, email, link]
  return texts.find(text => text.length >= minLength && text.length <= maxLength && (pattern === undefined || expressionOf(pattern).test(text))) ?? null
}
