/** Where somebody is signed in: seen, and ended. */
import { ask } from '../ask.js'
import { button, card, h, item, list, told } from '../dom.js'

/** @import { Page } from '../pages.js' */

/** @type {Page} */
export default {
  async show (outlet, { tell, leave, signal }) {
    const rows = h('div')
    const element = card('Where you are signed in', rows,
      button('Sign out everywhere', async () => {
        await ask('POST', '/auth/logout-all')
        leave('You are signed out everywhere.')
      }, { class: 'danger' }))
    outlet.append(element)
    await load()

    async function load () {
      const { items } = await ask('GET', '/sessions', undefined, { signal })
      rows.replaceChildren(list(items.map(drawn), 'None.', { id: 'device-list' }))
    }

    /** @param {{ id: string, userAgent: string, address: string, lastSeenAt: string, isCurrent: boolean }} device */
    function drawn ({ id, userAgent, address, lastSeenAt, isCurrent }) {
      const name = browserOf(userAgent)
      const more = `${address}, ${isCurrent ? 'this device' : `last seen ${told(lastSeenAt)}`}`
      return item(name, more, !isCurrent && button('End', async () => {
        await ask('DELETE', `/sessions/${encodeURIComponent(id)}`)
        tell('That device is signed out.')
        element.querySelector('h2')?.focus()
        await load()
      }, { 'aria-label': `End: ${name}, ${more}` }))
    }
  },
}

/** What people call it; the whole text says more than they want to know. @param {string} userAgent */
function browserOf (userAgent) {
  const [, name = 'Another program'] = /(Edg|OPR|Firefox|Chrome|Safari|curl)[^ /]*\/\d/.exec(userAgent.replace(/(Chrome|Safari)\/\S+(?=.*(Edg|OPR)\/)/g, '')) ?? []
  const [, system] = /(Android|iPhone|iPad|Windows|Mac OS X|Linux)/.exec(userAgent) ?? []
  const known = /** @type {Record<string, string>} */ ({ Edg: 'Edge', OPR: 'Opera' })[name] ?? name
  return system === undefined ? known : `${known} on ${system.replace('Mac OS X', 'macOS')}`
}
