/** The shell: who is signed in, which page is open, and the way from one to another. What is secret is gone from the page after the sign-out. */
import { ask, know, opened, OTHER, OVER } from './ask.js'
import { h, said } from './dom.js'
import { HOME, PAGES } from './pages.js'

/** @import { Caller, Context, Entry, Page } from './pages.js' */

const SERVICE = document.title
const at = (/** @type {string} */ id) => /** @type {HTMLElement} */ (document.getElementById(id))
const status = at('status')
const title = at('title')
const fault = at('fault')
const outlet = at('outlet')
const navigation = at('navigation')
const menu = at('menu')

/** Other tabs of this browser hear who is signed in now. */
const tabs = new BroadcastChannel('portal')

/** @type {Caller} */
let caller
/** Ends what the open page does. @type {() => void} */
let leavePage = () => {}
/** The way that counts is the last. */
let visits = 0
/** A page led to the next one, and what it said is still said there. */
let isSent = false
/** The sign-out is on its way. */
let isLeaving = false

/** @param {string} text */
function tell (text) {
  status.textContent = text
}

/** @param {string} address */
function go (address) {
  if (window.location.hash === `#${address}`) return open()
  isSent = true
  window.location.hash = address
}

/** The page that is asked for, or the one in its place, and the rest of the address. @returns {{ entry: Entry | undefined, path: string[] }} */
function asked () {
  const [name = '', ...path] = window.location.hash.slice(1).split('/').map(decoded)
  const entry = PAGES.find(page => page.name === (name === '' ? HOME : name))
  if (entry?.opens(caller)) return { entry, path }
  // Who signs in gets to where they wanted.
  if (caller.user === null) return { entry: PAGES.find(page => page.name === 'sign-in'), path: [] }
  return entry !== undefined && ['sign-in', 'register'].includes(entry.name) ? { entry: PAGES.find(page => page.name === HOME), path: [] } : { entry: undefined, path }
}

/** @param {string} text */
function decoded (text) {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

/** Shows the page that the address names, and takes the keyboard and the screen reader there. */
async function open () {
  const visit = ++visits
  const { entry, path } = asked()
  const isFirst = visit === 1
  leavePage()
  close()
  const controller = new AbortController()
  leavePage = () => controller.abort()
  opened(controller.signal)
  outlet.removeAttribute('aria-busy')
  const heading = entry?.title ?? 'There is no such page'
  document.title = `${heading} · ${SERVICE}`
  title.textContent = heading
  title.hidden = false
  mark(entry)
  if (!isFirst) title.focus()
  if (entry === undefined) {
    outlet.append(h('p', {}, 'It does not exist, or it is not for your role.'))
    return
  }
  outlet.setAttribute('aria-busy', 'true')
  try {
    const { default: page } = /** @type {{ default: Page }} */ (await import(`./pages/${entry.name}.js`))
    if (visit !== visits) return
    const place = h('div', { class: 'page' })
    outlet.append(place)
    const left = await page.show(place, { caller, path, signal: controller.signal, tell, go, enter, leave, changed })
    if (controller.signal.aborted) left?.()
    else if (typeof left === 'function') controller.signal.addEventListener('abort', left, { once: true })
  } catch (error) {
    if (visit === visits) fault.textContent = said(error)
  } finally {
    if (visit === visits) outlet.removeAttribute('aria-busy')
  }
}

/** Nothing of the page before stays. */
function close () {
  for (const element of [fault, outlet]) element.replaceChildren()
  for (const dialog of document.querySelectorAll('dialog')) dialog.close()
  menu.ariaExpanded = 'false'
}

/** The navigation: what this caller may open. */
function drawNavigation () {
  const entries = PAGES.filter(({ group, opens }) => group !== undefined && opens(caller))
  navigation.replaceChildren(...[...new Set(entries.map(({ group }) => group))].map(group => h('div', { class: 'group' },
    h('h2', {}, group),
    h('ul', {}, entries.filter(entry => entry.group === group).map(({ name, title }) => h('li', {}, h('a', { href: `#${name}` }, title)))))))
  if (caller.docs) navigation.append(h('div', { class: 'group' }, h('h2', {}, 'Development'), h('ul', {}, h('li', {}, h('a', { href: '/docs' }, 'OpenAPI')))))
  navigation.hidden = false
  menu.hidden = false
  at('here').hidden = caller.user === null
  at('who').textContent = caller.user === null ? '' : `${caller.user.username} (${caller.user.role})`
}

/** @param {Entry | undefined} entry */
function mark (entry) {
  for (const link of navigation.querySelectorAll('a')) {
    if (entry !== undefined && link.getAttribute('href') === `#${entry.name}`) link.setAttribute('aria-current', 'page')
    else link.removeAttribute('aria-current')
  }
}

/** Asks the portal who is here, whoever it is. */
async function meet () {
  caller = await ask('GET', '/portal.json', undefined, { whom: undefined })
  know(caller.user?.id ?? null)
  drawNavigation()
}

async function enter () {
  tell('')
  await meet()
  tabs.postMessage(caller.user?.id ?? null)
  await open()
}

/** @param {string} message */
function leave (message) {
  tabs.postMessage(null)
  end(message)
}

/** @param {string} message */
function end (message) {
  know(null)
  caller = { ...caller, user: null, permissions: [], lab: false }
  for (const form of document.forms) form.reset()
  drawNavigation()
  open()
  tell(message)
}

/** @param {NonNullable<Caller['user']>} user */
function changed (user) {
  caller.user = user
  drawNavigation()
  mark(asked().entry)
}

/** Whatever the open page does or waits for. */
async function signOut () {
  if (isLeaving) return
  isLeaving = true
  fault.textContent = ''
  try {
    await ask('POST', '/session/logout')
    window.history.replaceState(null, '', '/')
    leave('You are signed out.')
  } catch (error) {
    // Where nobody was signed in any more the shell has said so.
    if (caller.user !== null) fault.textContent = said(error)
  } finally {
    isLeaving = false
  }
}

at('sign-out').addEventListener('click', signOut)
menu.addEventListener('click', () => { menu.ariaExpanded = String(menu.ariaExpanded !== 'true') })
at('skip').addEventListener('click', event => {
  event.preventDefault()
  at('main').focus()
})
window.addEventListener('hashchange', () => {
  if (!isSent) tell('')
  isSent = false
  open()
})
window.addEventListener(OVER, () => end('You are signed out. Sign in again.'))
window.addEventListener(OTHER, () => window.location.reload())
tabs.addEventListener('message', ({ data }) => { if (caller !== undefined && data !== (caller.user?.id ?? null)) window.location.reload() })
for (const element of document.querySelectorAll('[data-origin]')) element.textContent = window.location.origin

meet().then(open, error => { fault.textContent = said(error) })
