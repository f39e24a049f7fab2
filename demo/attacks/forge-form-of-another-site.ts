import type { Attack } from '../lab/attack.js'

export default {
  title: 'Change a profile from a page of another site',
  risk: 'API2',
  cwe: 352,
  concern: 'csrf',
  story: 'The victim is signed in, and opens a page of Mallory. It holds a form that sends itself to the service; the browser adds the cookies.',
  defence: 'What changes something and rides on a cookie must come from a page of the service, as the browser says, and hold a token that only such a page has.',
  refusal: { status: 403, code: 'FST_BASTION_CSRF_REFUSED' },
  async run ({ step, must, ask, person, tab }) {
    const { username, password } = await person()
    const browser = tab()
    step('The victim signs in')
    await must(browser.signIn(username, password), 200)
    const cookie = [...browser.jar].map(([name, value]) => `${name}=${value}`).join('; ')
    step("The form on Mallory's page sends itself")
    const website = 'https://mallory.example/'
    const decisive = await ask('POST', '/session/profile', {
      headers: { cookie, origin: 'https://mallory.example', 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate', 'content-type': 'text/plain' },
      raw: JSON.stringify({ website }),
    })
    const { body: profile } = await must(browser.ask('GET', '/session/me'), 200)
    const succeeded = profile.website === website
    return { succeeded, decisive, evidence: succeeded ? `The profile of ${username} leads to ${website}` : 'The profile is as it was' }
  },
} satisfies Attack
