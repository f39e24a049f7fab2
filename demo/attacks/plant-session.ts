import type { Attack } from '../lab/attack.js'

export default {
  title: 'Plant a session before the victim signs in to it',
  risk: 'API2',
  cwe: 384,
  concern: 'sessions',
  story: 'Mallory signs in at the browser first, and takes down its cookies. The victim signs in with them there: the session that Mallory knows is the victim\'s now.',
  defence: 'Signing in starts a session with a fresh id, and ends the one that the browser brought along.',
  refusal: { status: 401, code: 'FST_BASTION_SESSIONS_INVALID' },
  async run ({ step, must, ask, person, tab }) {
    const [victim, mallory] = [await person(), await person()]
    const browser = tab()
    step('Mallory signs in at a browser, and takes down its cookies')
    await must(browser.signIn(mallory.username, mallory.password), 200)
    const cookie = [...browser.jar].map(([name, value]) => `${name}=${value}`).join('; ')
    const { body: { username } } = await must(ask('GET', '/session/me', { headers: { cookie }, machine: 1 }), 200)
    if (username !== mallory.username) throw new Error('the planted session is none')
    step('The victim signs in, in the same browser')
    await must(browser.ask('POST', '/session/login', { json: { username: victim.username, password: victim.password } }), 200)
    const { body: shown } = await must(browser.ask('GET', '/session/me'), 200)
    if (shown.username !== victim.username) throw new Error('the victim is not signed in')
    step('Mallory comes with the cookies that she took down')
    const decisive = await ask('GET', '/session/me', { headers: { cookie }, machine: 1 })
    const succeeded = decisive.status === 200 && decisive.body.username === victim.username
    return { succeeded, decisive, evidence: succeeded ? `Her session is that of ${victim.username}` : 'Her session is nobody’s' }
  },
} satisfies Attack
