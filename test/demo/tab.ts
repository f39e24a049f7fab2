/** A tab of a browser at the portal: keeps cookies, says where its requests come from, and shows the CSRF token. */
import type { Answer, Call, PortalUnderTest } from './portal.js'

export interface Tab {
  jar: Map<string, string>
  /** For unsafe methods: the token that it shows, null for none. */
  csrf: string | null
  /** A header that is empty is not sent. */
  ask: (method: string, url: string, call?: Call) => Promise<Answer>
  /** Signs in and takes the token. */
  signIn: (username: string, password: string) => Promise<void>
  /** Another tab of the same browser, or a thief with its cookies. */
  copy: () => Tab
}

export function tabAt (portal: PortalUnderTest, cookies: Iterable<[string, string]> = [], csrf: string | null = null): Tab {
  const jar = new Map(cookies)
  const tab: Tab = {
    jar,
    csrf,
    async ask (method, url, { headers = {}, ...call } = {}) {
      const cookie = [...jar].map(([name, value]) => `${name}=${value}`).join('; ')
      const isUnsafe = method !== 'GET' && method !== 'HEAD'
      const all = { 'sec-fetch-site': 'same-origin', ...cookie !== '' && { cookie }, ...isUnsafe && tab.csrf !== null && { 'x-csrf-token': tab.csrf }, ...headers }
      const answer = await portal.call(method, url, { headers: Object.fromEntries(Object.entries(all).filter(([, value]) => value !== '')), ...call })
      for (const line of [answer.headers['set-cookie'] ?? []].flat() as string[]) {
        const [, name, value] = /^([^=]+)=([^;]*)/.exec(line)!
        if (/max-age=0/i.test(line)) jar.delete(name!)
        else jar.set(name!, value!)
      }
      if (typeof answer.body?.csrfToken === 'string') tab.csrf = answer.body.csrfToken
      return answer
    },
    async signIn (username, password) {
      const { status, body } = await tab.ask('POST', '/session/login', { body: { username, password } })
      if (status !== 200) throw new Error(`${username} cannot sign in: ${status} ${body.code}`)
    },
    copy: () => tabAt(portal, jar, tab.csrf),
  }
  return tab
}
