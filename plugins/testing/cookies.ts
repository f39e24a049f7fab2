/** Cookies, as answers set them. */
import type { Received } from './target.js'

export interface SetCookie { name: string, value: string, attributes: ReadonlyMap<string, string> }

export function cookiesOf ({ headers: { 'set-cookie': lines = [] } }: Pick<Received, 'headers'>): SetCookie[] {
  return [lines].flat().map(line => {
    const [[name, value], ...attributes] = line.split(';').map(part => {
      const [key = '', ...rest] = part.trim().split('=')
      return [key, rest.join('=')] as const
    }) as [readonly [string, string], ...(readonly [string, string])[]]
    return { name, value, attributes: new Map(attributes.map(([key, rest]) => [key.toLowerCase(), rest])) }
  })
}

/** By its name, or since a caller is known by it. Those of tokens against forgery are for scripts. */
export function isOfSession (name: string, known?: ReadonlySet<string>): boolean {
  return (known?.has(name) === true || /sess|^(?:__(?:host|secure)-)?sid$|auth|jwt|token|connect\.sid/i.test(name)) && !/csrf|xsrf/i.test(name)
}
