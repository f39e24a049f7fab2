/** The link of a mail to an address that is to be confirmed (`#confirm/<token>`). */
import { ask } from '../ask.js'
import { button, card, h } from '../dom.js'

/** @type {import('../pages.js').Page} */
export default {
  show (outlet, { path: [token], tell, go }) {
    window.history.replaceState(null, '', '#confirm')
    const element = token === undefined
      ? card('By mail', h('p', {}, 'Open the link of the mail that was sent to you.'))
      : card('By mail', h('p', {}, 'You had a mail with a link to this page.'), button('Confirm my address', async () => {
        await ask('POST', '/auth/confirm', { token })
        go('profile')
        tell('Your address is confirmed.')
      }, { class: 'first' }))
    element.classList.add('narrow')
    outlet.append(element)
  },
}
