import type { Attack } from '../lab/attack.js'

export default {
  title: 'Read a profile from a frame without an origin',
  risk: 'API8',
  cwe: 346,
  concern: 'cors',
  story: "A frame that is shut in a sandbox has the origin “null”, on any site. Anna looks at Mallory's page, in which there is one.",
  defence: 'The origin null is nobody: it cannot be allowed.',
  refusal: { status: 200 },
  async run ({ step, person, tab }) {
    const anna = await person()
    const { signIn, ask } = tab()
    await signIn(anna.username, anna.password)
    step('The frame asks for her profile')
    const decisive = await ask('GET', '/session/me', { headers: { origin: 'null', 'sec-fetch-site': 'cross-site' } })
    const { 'access-control-allow-origin': allowed, 'access-control-allow-credentials': credentials } = decisive.headers
    const succeeded = decisive.text.includes(anna.username) && allowed === 'null' && credentials === 'true'
    return { succeeded, decisive, evidence: succeeded ? `Its script reads who Anna is: ${anna.username}` : 'The browser gives its script nothing' }
  },
} satisfies Attack
