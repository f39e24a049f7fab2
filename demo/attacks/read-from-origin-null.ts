import { FRIEND, type Attack } from '../lab/attack.js'

export default {
  title: 'Read a profile from a frame without an origin',
  risk: 'API8',
  cwe: 346,
  concern: 'cors',
  story: "One other origin may read answers. A frame that is shut in a sandbox has the origin “null”, on any site. Anna looks at Mallory's page, in which there is one.",
  defence: 'The origin null is nobody: it is none of those that are allowed, and cannot be.',
  refusal: { status: 200 },
  async run ({ step, must, person, tab }) {
    const anna = await person()
    const browser = tab()
    await must(browser.signIn(anna.username, anna.password), 200)
    const askFrom = (origin: string) => must(browser.ask('GET', '/session/me', { headers: { origin, 'sec-fetch-site': 'cross-site' } }), 200)
    step(`A page of ${FRIEND}, which is allowed, asks for her profile`)
    const { headers } = await askFrom(FRIEND)
    if (headers['access-control-allow-origin'] !== FRIEND) throw new Error(`${FRIEND} is not allowed, so that nothing is compared`)
    step('The frame asks for it')
    const decisive = await askFrom('null')
    const allowed = decisive.headers['access-control-allow-origin']
    const succeeded = decisive.text.includes(anna.username) && (allowed === 'null' || allowed === '*')
    return { succeeded, decisive, evidence: succeeded ? `Its script reads who Anna is: ${anna.username}` : 'The browser gives its script nothing' }
  },
} satisfies Attack
