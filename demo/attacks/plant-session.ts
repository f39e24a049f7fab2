import { randomUUID } from 'node:crypto'
import type { Attack } from '../lab/attack.js'

export default {
  title: 'Plant a session before the victim signs in to it',
  risk: 'API2',
  cwe: 384,
  concern: 'sessions',
  story: "Mallory sits at the browser first, and takes down its cookies. The victim signs in with them: the session that Mallory knows is the victim's now.",
  defence: 'Signing in starts a session with a fresh id; one that a browser brought along is never taken over.',
  refusal: { status: 401, code: 'FST_BASTION_SESSIONS_INVALID' },
  async run ({ step, ask, person, tab }) {
    const { username, password } = await person()
    step('Mallory opens the page in a browser, and takes down its cookies')
    const browser = tab()
    await browser.ask('GET', '/csrf-token')
    for (const name of ['session', '__Host-session']) if (!browser.jar.has(name)) browser.jar.set(name, randomUUID())
    const cookie = [...browser.jar].map(([name, value]) => `${name}=${value}`).join('; ')
    step('The victim signs in, in the same browser')
    const { status } = await browser.ask('POST', '/session/login', { json: { username, password } })
    if (status !== 200) throw new Error('the victim cannot sign in')
    step('Mallory comes with the cookies that she took down')
    const decisive = await ask('GET', '/session/me', { headers: { cookie }, machine: 1 })
    const succeeded = decisive.status === 200 && decisive.body.username === username
    return { succeeded, decisive, evidence: succeeded ? `Her session is that of ${username}` : 'Her session is nobody’s' }
  },
} satisfies Attack
