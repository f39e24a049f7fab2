/** What a script of a page elsewhere reads in the name of somebody who is signed in and looks at that page. */
import { FRIEND, type Exchange, type Target } from './attack.js'

/** From a page of this origin; `isRead`: a browser gives its script who they are. */
export type ReadFrom = (origin: string) => Promise<{ exchange: Exchange, isRead: boolean }>

/** Somebody new signs in in a browser. @throws Error where the origin that may read is not told so: then nothing is compared */
export async function visitor ({ step, must, person, tab }: Target): Promise<{ username: string, readFrom: ReadFrom }> {
  const { username, password } = await person()
  const browser = tab()
  await must(browser.signIn(username, password), 200)
  const readFrom: ReadFrom = async origin => {
    const exchange = await must(browser.ask('GET', '/session/me', { headers: { origin, 'sec-fetch-site': 'cross-site' } }), 200)
    const allowed = exchange.headers['access-control-allow-origin']
    return { exchange, isRead: exchange.text.includes(username) && (allowed === origin || allowed === '*') }
  }
  step(`A page of ${FRIEND}, which is allowed, asks for her profile`)
  const { exchange: { headers } } = await readFrom(FRIEND)
  if (headers['access-control-allow-origin'] !== FRIEND) throw new Error(`${FRIEND} is not allowed, so that nothing is compared`)
  return { username, readFrom }
}
