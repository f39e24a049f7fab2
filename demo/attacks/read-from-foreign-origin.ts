import type { Attack } from '../lab/attack.js'

const ORIGIN = 'https://portal.example.evil.example'

export default {
  title: 'Read a profile from a page that is called almost the same',
  risk: 'API8',
  cwe: 942,
  concern: 'cors',
  story: "Anna, who is signed in, looks at a page of Mallory's, whose name begins like the portal's. Its script asks the portal in Anna's name, and may read the answer.",
  defence: 'Origins are compared as a whole; a pattern that is not anchored, or any origin with credentials, stops boot.',
  refusal: { status: 200 },
  async run ({ step, person, tab }) {
    const anna = await person()
    const { signIn, ask } = tab()
    await signIn(anna.username, anna.password)
    step(`A page of ${ORIGIN} asks for her profile`)
    const decisive = await ask('GET', '/session/me', { headers: { origin: ORIGIN, 'sec-fetch-site': 'cross-site' } })
    const { 'access-control-allow-origin': allowed, 'access-control-allow-credentials': credentials } = decisive.headers
    const succeeded = decisive.text.includes(anna.username) && allowed === ORIGIN && credentials === 'true'
    return { succeeded, decisive, evidence: succeeded ? `Its script reads who Anna is: ${anna.username}` : 'The browser gives its script nothing' }
  },
} satisfies Attack
