/** Ends of lines in all that a client sends: a reader of the log takes what follows for an entry of its own. */
import type { Campaign, Exchange, Shot } from '../../campaign.js'
import { filled } from '../../paths.js'
import { propertiesOf, typesOf } from '../../schemas.js'
import type { Route } from '../../surface.js'
import { textsOf } from '../../witnesses.js'

/** Of readers of logs: those of terminals and of Unicode, too. */
const ENDS = { CRLF: '\r\n', LF: '\n', CR: '\r', NEL: '\u0085', LS: '\u2028', PS: '\u2029' } as const
const BEGUN = /(\r\n|[\n\r\u0085\u2028\u2029])(ln[A-Za-z0-9]{8})/g

/** Sends them everywhere, and looks once at the log. */
export async function tryLines (campaign: Campaign): Promise<void> {
  const sent = new Map<string, Exchange>()
  for (const route of campaign.routes) {
    if (route.isGone || campaign.isOff(route, 'traces.lines')) continue
    const [as] = await campaign.passing(route)
    if (as !== undefined) for (const [mark, exchange] of await lettersTo(campaign, route, as)) sent.set(mark, exchange)
  }
  const log = (await textsOf(campaign.options.witnesses!, 'logged'))!.join('\n')
  const begun = new Map<string, string>()
  // The log may be long: it is read once.
  for (const [, text, mark] of log.matchAll(BEGUN)) begun.set(mark!, Object.entries(ENDS).find(([, end]) => end === text)![0])
  for (const [mark, exchange] of sent) {
    const end = begun.get(mark)
    campaign.check('traces.lines', exchange, end === undefined, 'no line of the log that begins with what was sent', `a line that begins with what was sent after ${end}`)
  }
}

async function lettersTo (campaign: Campaign, route: Route, as: string | null): Promise<[mark: string, exchange: Exchange][]> {
  const shot = await campaign.ofOwn(route, as)
  if (typeof shot === 'string') return []
  const found: [string, Exchange][] = []
  const [path = '', search = ''] = shot.path!.split('?')
  const ask = async (change: (text: string) => Partial<Shot> | Promise<Partial<Shot>>) => {
    const mark = `ln${campaign.random.text(8)}`
    const exchange = await campaign.ask({ ...shot, isAllowed: true, ...await change(Object.values(ENDS).map(end => `${end}${mark}`).join('')) })
    found.push([mark, exchange])
    return exchange
  }

  const names = Object.entries(propertiesOf(route.querySchema)).filter(([, part]) => isText(part)).map(([name]) => name)
  await ask(text => {
    const query = new URLSearchParams(search)
    for (const name of names.length === 0 ? ['q'] : names) query.set(name, `${query.get(name) ?? ''}${text}`)
    return { path: `${path}?${query}` }
  })
  if (route.params.length > 0) await ask(text => ({ path: filled(route.url, () => encodeURIComponent(`x${text}`)) }))

  const fields = route.body?.type === 'application/json' ? Object.entries(propertiesOf(route.body.schema)).filter(([, part]) => isText(part)).map(([name]) => name) : []
  const inFields = (some: readonly string[]) => ask(async text => {
    const made = await campaign.ofOwn(route, as, body => ({ ...body as object, ...Object.fromEntries(some.map(name => [name, `${String((body as Record<string, unknown>)[name] ?? '')}${text}`])) }))
    return typeof made === 'string' ? {} : made
  })
  // One that is refused may hide the others.
  if (fields.length > 0 && (await inFields(fields)).status >= 400 && fields.length > 1) for (const name of fields) await inFields([name])
  return found
}

function isText (part: object): boolean {
  return typesOf(part as never).includes('string') || typesOf(part as never).length === 0
}
