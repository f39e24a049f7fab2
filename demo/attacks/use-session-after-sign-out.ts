import type { Attack } from '../lab/attack.js'

export default {
  title: 'Go on with a session after its owner signed out',
  risk: 'API2',
  cwe: 613,
  concern: 'sessions',
  story: 'The victim signs out. A copy of the cookie lies in the log of a proxy, and Mallory sends it.',
  defence: 'Signing out ends the session on the server, and what is ended is never written anew.',
  refusal: { status: 401, code: 'FST_BASTION_SESSIONS_INVALID' },
  async run ({ step, must, ask, person, tab }) {
    const { username, password } = await person()
    const browser = tab()
    step('The victim signs in, and out')
    await must(browser.signIn(username, password), 200)
    const cookie = [...browser.jar].map(([name, value]) => `${name}=${value}`).join('; ')
    await must(ask('GET', '/session/me', { headers: { cookie }, machine: 1 }), 200)
    await must(browser.ask('POST', '/session/logout'), 204)
    step('Mallory sends the cookie')
    const decisive = await ask('GET', '/session/me', { headers: { cookie }, machine: 1 })
    const succeeded = decisive.status === 200 && decisive.body.username === username
    return { succeeded, decisive, evidence: succeeded ? `She is ${username}` : 'The session has ended' }
  },
} satisfies Attack
