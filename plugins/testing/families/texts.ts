/** What a text means: passwords that everybody tries first, and HTML that runs scripts where it is shown. */
import type { Campaign, Exchange } from '../campaign.js'
import { propertiesOf } from '../schemas.js'
import type { Schema } from '../../references.js'
import type { Route } from '../surface.js'

const PASSWORD = /^(?:new_?)?(?:password|passwd|passphrase)$/i
const NAME = /^(?:user_?name|login|name|nick_?name|e_?mail)$/i
/** Among the first of every list, as they are made to please rules of composition, and to be long. */
const COMMON = ['123456', 'password', '12345678', 'qwerty123', 'Password1', 'Password1!', 'P@ssw0rd123', 'Welcome123!', 'passwordpassword', '1234567890123456', 'Password1234567!']
const SCRIPTS = ['<script>attack()</script>', '<img src="x" onerror="attack()">', '<a href="javascript:attack()">words</a>', '<svg onload=attack()>', '<iframe srcdoc="&lt;script&gt;attack()&lt;/script&gt;"></iframe>', '<a href="&#106;ava&#9;script:attack()">words</a>']
const RUNS = /<script|<iframe|<[^>]*\son[a-z]+\s*=|<[^>]*=\s*["']?\s*(?:j|&#0*106;|&#x0*6a;)(?:[\s\0]|&#\w+;)*a[^>]{0,40}script:/i

export function isPassword (name: string, { format }: Schema): boolean {
  return format === 'password' || PASSWORD.test(name)
}

/** A field sets a password where it takes one that nobody has ever had; where it does not, it asks for the one that is. */
export async function tryPasswords (campaign: Campaign, route: Route, as: string | null): Promise<void> {
  if (campaign.isOff(route, 'input.password')) return
  const fields = propertiesOf(route.body?.schema)
  for (const [field, part] of Object.entries(fields)) {
    if (!isPassword(field, part)) continue
    const { minLength = 0, maxLength = Infinity } = part as { minLength?: number, maxLength?: number }
    const names: string[] = []
    const send = async (password: (names: string[]) => string) => {
      const shot = await campaign.ofOwn(route, as, body => {
        names.splice(0, Infinity, ...Object.entries(body as object).filter(([name, value]) => NAME.test(name) && typeof value === 'string').map(([, value]) => value as string))
        return { ...body as object, [field]: password(names) }
      })
      return typeof shot === 'string' ? shot : campaign.ask({ ...shot, isAllowed: true })
    }
    const fresh = await send(() => `Unheard-of ${campaign.random.text(12)} 7Q`)
    if (typeof fresh === 'string') return campaign.unproven(route, 'input.password', fresh)
    if (fresh.status >= 300) {
      const shot = await campaign.ofOwn(route, as)
      const known = typeof shot === 'string' ? null : await campaign.ask({ ...shot, isAllowed: true })
      if (known === null || known.status >= 300) campaign.unproven(route, 'input.password', `a good password was answered ${fresh.status}: give its body or values`)
      continue
    }
    const fits = (text: string) => text.length >= minLength && text.length <= maxLength
    for (const common of COMMON.filter(fits)) {
      const exchange = await send(() => common)
      if (typeof exchange !== 'string') campaign.check('input.password', exchange, exchange.status >= 400, `a refusal: ${field} is ${common}, which everybody tries`, undefined, field)
    }
    for (const i of names.keys()) {
      const exchange = await send(own => own[i]!)
      if (typeof exchange !== 'string' && fits(names[i] ?? '')) campaign.check('input.password', exchange, exchange.status >= 400, `a refusal: ${field} is one's own name or address`, undefined, `${field} own`)
    }
  }
}

/** What is declared as HTML, in the answer and where it is shown. */
export async function tryMarkup (campaign: Campaign, route: Route, as: string | null): Promise<void> {
  if (campaign.isOff(route, 'input.markup')) return
  for (const [field, part] of Object.entries(propertiesOf(route.body?.schema))) {
    if (part.html === undefined) continue
    for (const script of SCRIPTS) {
      const headers = as === null ? undefined : (await campaign.callers.get(as)).headers('GET')
      const shot = await campaign.ofOwn(route, as, body => ({ ...body as object, [field]: `<p>Words of a text</p>${script}` }))
      if (typeof shot === 'string') return campaign.unproven(route, 'input.markup', shot)
      const exchange = await campaign.ask({ ...shot, isAllowed: true })
      const expected = `${field} without ${script}`
      if (!campaign.check('input.markup', exchange, !runs(exchange.json), expected, `${exchange.status}, with it`, field) || exchange.status >= 300) continue
      const shown = await show(campaign, route, exchange, headers)
      if (shown !== null) campaign.check('input.markup', shown, !runs(shown.json), `${expected}, as it is shown`, `${shown.status}, with it`, field)
    }
  }
}

/** The object that was written, where a route shows it: the one that its id leads to, or the same one. Asked by the credential that wrote it. */
async function show (campaign: Campaign, route: Route, { shot: { as = null }, sent, json }: Exchange, headers: Readonly<Record<string, string>> | undefined): Promise<Exchange | null> {
  const { id } = (json ?? {}) as { id?: unknown }
  const [path = ''] = sent.path.split('?')
  const single = typeof id === 'string' || typeof id === 'number' ? campaign.routes.find(({ method, url, params }) => method === 'GET' && url === `${route.url}/:${params.at(-1)}`) : undefined
  const shown = single ?? campaign.routes.find(({ method, url }) => method === 'GET' && url === route.url)
  if (shown === undefined || !(await campaign.passing(shown)).includes(as)) return null
  return campaign.ask({ route: shown, as, path: single === undefined ? path : `${path}/${encodeURIComponent(String(id))}`, ...headers !== undefined && { headers } })
}

function runs (value: unknown): boolean {
  if (typeof value === 'string') return RUNS.test(value)
  return typeof value === 'object' && value !== null && Object.values(value).some(runs)
}
