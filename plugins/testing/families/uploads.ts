/** Uploads: files that are not what they are called, names that lead elsewhere, more bytes, files and pixels than are declared. One that is right is sent first: where it is refused, nothing is proven. */
import type { Campaign, Family } from '../campaign.js'
import type { FindingId } from '../catalogue.js'
import type { UploadPolicy } from '../contract.js'
import { FILES, formOf, kindOf, partOf, pngOf, STEM, type FileKind, type Part } from '../forms.js'
import type { Route } from '../surface.js'

const IDS: readonly FindingId[] = ['uploads.content', 'uploads.name', 'uploads.size']
/** Bytes that the kit sends at most. */
const MOST_BYTES = 64 * 1_048_576
const MOST_PIXELS = 64_000_000
const HTML = Buffer.from('<!doctype html><script>attack()</script>')
const SVG = Buffer.from('<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1" onload="attack()"><script>attack()</script></svg>')
const NAMES = [`../${STEM}.`, `..\\\\${STEM}.`, `/${STEM}.`, `${STEM}\u0001\u001b[2J.`, `${STEM}.html\u0000.`]

interface Lie { id: FindingId, what: string, parts: readonly Part[] }

export const uploads: Family = {
  name: 'uploads',
  async lead (campaign) {
    for (const route of campaign.routes) {
      const [as] = await campaign.passing(route)
      if (route.upload === null || as === undefined || IDS.every(id => campaign.isOff(route, id))) continue
      await tryUpload(campaign, route, route.upload, as)
    }
    campaign.notApplicable(IDS, 'no route says what files it takes')
  },
}

async function tryUpload (campaign: Campaign, route: Route, upload: UploadPolicy, as: string | null): Promise<void> {
  const kind = kindOf(upload.kinds)
  const shot = await campaign.ofOwn(route, as)
  const first = typeof shot === 'string' ? null : await campaign.ask({ ...shot, isAllowed: true })
  if (kind === null || first === null || first.status >= 300) {
    const reason = kind === null ? `the kit makes no ${upload.kinds.join(' or ')}` : first === null ? String(shot) : `a file that is right was answered ${first.status}`
    for (const id of IDS) campaign.unproven(route, id, reason)
    return
  }
  for (const { id, what, parts } of [...contentLies(kind, upload), ...nameLies(kind, upload), ...sizeLies(kind, upload)]) {
    if (campaign.isOff(route, id)) continue
    const lie = await campaign.ofOwn(route, as)
    if (typeof lie === 'string') return
    const exchange = await campaign.ask({ ...lie, ...formOf(parts), isAllowed: true })
    const isRefused = exchange.status >= 400 && exchange.status < 500
    if (id === 'uploads.name') campaign.check(id, exchange, exchange.status >= 400 || !keeps(exchange.json), 'a refusal, or a name of the service\'s own', `${exchange.status}, under ${what}`, what)
    else campaign.check(id, exchange, isRefused, `a refusal: ${what}`, undefined, what)
  }
}

function contentLies (kind: FileKind, { field }: UploadPolicy): Lie[] {
  const { extension, type } = FILES[kind]
  const lie = (what: string, more: Partial<Part>): Lie => ({ id: 'uploads.content', what, parts: [partOf(kind, field, more)] })
  return [
    lie(`HTML with a script, named .${extension} and declared as ${type}`, { content: HTML }),
    lie(`SVG with a script, named .${extension} and declared as ${type}`, { content: SVG }),
    lie(`a file that is right but for its name, which ends on .html, declared as ${type}`, { filename: `${STEM}.html` }),
    lie(`a file that is right but for its type, declared as text/html and named .${extension}`, { type: 'text/html' }),
    lie('SVG with a script, named and declared as such', { content: SVG, filename: `${STEM}.svg`, type: 'image/svg+xml' }),
    lie('HTML with a script, named and declared as such', { content: HTML, filename: `${STEM}.html`, type: 'text/html' }),
  ]
}

function nameLies (kind: FileKind, { field }: UploadPolicy): Lie[] {
  return NAMES.map(name => {
    const filename = `${name}${FILES[kind].extension}`
    return { id: 'uploads.name', what: `the name ${JSON.stringify(filename)}`, parts: [partOf(kind, field, { filename })] }
  })
}

function sizeLies (kind: FileKind, { field, maxBytes, maxWidth, maxHeight, maxPixels }: UploadPolicy): Lie[] {
  const { content } = FILES[kind]
  const lie = (what: string, ...parts: readonly Partial<Part>[]): Lie => ({ id: 'uploads.size', what, parts: parts.map(more => partOf(kind, field, more)) })
  const widest = Math.min(maxWidth ?? 4096, maxPixels ?? 4096)
  const pictures: (readonly [width: number, height: number])[] = [
    ...maxWidth === undefined ? [] : [[maxWidth + 1, 1] as const],
    ...maxHeight === undefined ? [] : [[1, maxHeight + 1] as const],
    ...maxPixels === undefined ? [] : [[widest, Math.floor(maxPixels / widest) + 1] as const],
  ]
  return [
    lie('two files', {}, {}),
    ...maxBytes === undefined || maxBytes > MOST_BYTES ? [] : [lie(`${maxBytes + 1} bytes`, { content: Buffer.concat([content(), Buffer.alloc(maxBytes + 1 - content().length)]) })],
    ...kind !== 'png' ? [] : pictures.filter(([width, height]) => width * height <= MOST_PIXELS).map(([width, height]) => lie(`${width} × ${height} pixels`, { content: pngOf(width, height) })),
  ]
}

/** A text that names the file as it was sent, with what leads elsewhere or is no letter in it. */
function keeps (value: unknown): boolean {
  // eslint-disable-next-line no-control-regex
  if (typeof value === 'string') return value.includes(STEM) && /[\x00-\x1f]|\.\.|^\//.test(value)
  return typeof value === 'object' && value !== null && Object.values(value).some(keeps)
}
