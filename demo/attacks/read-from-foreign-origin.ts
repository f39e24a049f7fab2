import { FRIEND, type Attack } from '../lab/attack.js'

/** Each is read by something as if it were the origin that is allowed. */
const STRANGERS = [
  `${FRIEND}.evil.example`, `${FRIEND}:8443`, `${FRIEND}:443`, `${FRIEND}/`, FRIEND.replace('https:', 'http:'), FRIEND.toUpperCase(), `https://evil-${FRIEND.slice(8)}`,
  `https://sub.${FRIEND.slice(8)}`, `https://evil.example/${FRIEND}`, `${FRIEND}@evil.example`, `${FRIEND}, https://evil.example`, 'https://evil.example',
]

export default {
  title: 'Read a profile from a page that is called almost the same',
  risk: 'API8',
  cwe: 942,
  concern: 'cors',
  story: "One other origin may read answers. Anna, who is signed in, looks at a page of Mallory's, whose name is almost that origin. Its script asks the portal in Anna's name, and may read the answer.",
  defence: 'Origins are compared as a whole, letter by letter; a pattern that is not anchored, or any origin with credentials, stops boot.',
  refusal: { status: 200 },
  async run ({ step, must, person, tab }) {
    const anna = await person()
    const browser = tab()
    await must(browser.signIn(anna.username, anna.password), 200)
    const askFrom = (origin: string) => must(browser.ask('GET', '/session/me', { headers: { origin, 'sec-fetch-site': 'cross-site' } }), 200)
    step(`A page of ${FRIEND}, which is allowed, asks for her profile`)
    const { headers } = await askFrom(FRIEND)
    if (headers['access-control-allow-origin'] !== FRIEND) throw new Error(`${FRIEND} is not allowed, so that nothing is compared`)
    step('Pages that are called almost the same ask for it')
    let decisive
    let read
    for (const origin of STRANGERS) {
      decisive = await askFrom(origin)
      const allowed = decisive.headers['access-control-allow-origin']
      read = decisive.text.includes(anna.username) && (allowed === origin || allowed === '*')
      if (read) break
    }
    const evidence = read ? `A script of ${decisive!.requestHeaders.origin} reads who Anna is: ${anna.username}` : `The browser gives none of ${STRANGERS.length} origins anything`
    return { succeeded: read === true, decisive: decisive!, evidence }
  },
} satisfies Attack
