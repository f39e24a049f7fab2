import { FRIEND, type Attack } from '../lab/attack.js'
import { visitor } from '../lab/cross-site.js'

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
  async run (target) {
    const { username, readFrom } = await visitor(target)
    target.step('Pages that are called almost the same ask for it')
    let read
    for (const origin of STRANGERS) {
      read = await readFrom(origin)
      if (read.isRead) break
    }
    const { exchange: decisive, isRead: succeeded } = read!
    const evidence = succeeded ? `A script of ${decisive.requestHeaders.origin} reads who Anna is: ${username}` : `The browser gives none of ${STRANGERS.length} origins anything`
    return { succeeded, decisive, evidence }
  },
} satisfies Attack
