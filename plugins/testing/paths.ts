/** Paths: which routes they are of, and how else they are written. */

/** What stands for something else in the URL of a route: a parameter, whose name is the first group; `*`; and two colons for one. */
export const PLACE = /::|:([A-Za-z0-9_]+)(?:\([^)]*\))?\??|\*/g

/** The path of a route, with these texts in its places; what no request can hold otherwise is encoded. */
export function filled (url: string, text: (name: string) => string): string {
  return url.replace(PLACE, (all, name?: string) => all === '::' ? ':' : text(name ?? all)).replace(/[^!-~]+/g, encodeURIComponent)
}

/** By the URL of a route: they are asked of again with every request. */
const patterns = new Map<string, RegExp>()

/** Whether a path is one of this pattern, as a router reads it. */
export function matches (url: string, path: string): boolean {
  const [plain = ''] = path.split('?')
  try {
    return patternOf(url).test(plain.split('/').map(decodeURIComponent).join('/'))
  } catch {
    return false
  }
}

function patternOf (url: string): RegExp {
  const known = patterns.get(url)
  if (known !== undefined) return known
  const pattern = url.replace(new RegExp(`${PLACE.source}|[.\\\\+?^\${}()|[\\]]`, 'g'), (all, name?: string) => name !== undefined ? '[^/]+' : all === '*' ? '.*' : all === '::' ? ':' : `\\${all}`)
  const made = new RegExp(`^${pattern}$`)
  patterns.set(url, made)
  return made
}

/** Other spellings of a path, of which a guard that looks at texts might not think. */
export function spellings (path: string): string[] {
  const [plain = '', query] = path.split('?')
  const search = query === undefined ? '' : `?${query}`
  const letter = plain.search(/[a-z]/)
  const encoded = letter === -1 ? plain : `${plain.slice(0, letter)}%${plain.charCodeAt(letter).toString(16)}${plain.slice(letter + 1)}`
  return [...new Set([
    plain.toUpperCase(), `${plain}/`, `/${plain}`, encoded, `${plain};x=y`, `${plain}%2f`, `/.${plain}`, `/x/..${plain}`, `${plain}/.`, `${plain}%00`, `${plain}.json`, `${plain}%20`, `/%2e${plain}`, `${plain}?`,
    plain.replaceAll('/', '//'), plain.replace(/^\//, '/%2f'), plain.replace(/^\//, '\\'),
  ])].filter(one => one !== plain).map(one => `${one}${search}`)
}
