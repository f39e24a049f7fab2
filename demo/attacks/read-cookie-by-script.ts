import type { Attack } from '../lab/attack.js'

export default {
  title: 'Carry the session off by a script in the page',
  risk: 'API8',
  cwe: 1004,
  concern: 'sessions',
  story: 'A script of Mallory runs in a page of the service, and sends her all that it can read of its cookies.',
  defence: 'The cookie of the session is HttpOnly, Secure and SameSite, with the prefix that lets no other host set it.',
  refusal: { status: 401, code: 'FST_BASTION_ACCESS_UNAUTHENTICATED' },
  async run ({ step, must, ask, person, tab }) {
    const { username, password } = await person()
    const browser = tab()
    step('The victim signs in')
    const { headers } = await must(browser.signIn(username, password), 200)
    await must(browser.ask('GET', '/session/me'), 200)
    const readable = [headers['set-cookie'] ?? []].flat().filter(line => !/;\s*httponly/i.test(line))
    step('With the cookies that a script can read, Mallory asks who she is')
    const cookie = readable.map(line => line.split(';')[0]).join('; ')
    const decisive = await ask('GET', '/session/me', { headers: cookie === '' ? {} : { cookie }, machine: 1 })
    const succeeded = decisive.status === 200 && decisive.body.username === username
    return { succeeded, decisive, evidence: succeeded ? `She is ${username}` : 'No cookie of the session can be read' }
  },
} satisfies Attack
