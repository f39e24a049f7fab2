/** One's own profile: seen and changed; the password; the address. */
import { ask } from '../ask.js'
import { card, facts, field, form, h } from '../dom.js'

/** @import { Page } from '../pages.js' */

/** @type {Page} */
export default {
  show (outlet, { caller, tell, changed }) {
    const user = caller.user
    if (user === null) return
    const known = h('div')
    const draw = () => known.replaceChildren(facts({
      Name: caller.user?.username, 'E-mail': h('span', { 'data-field': 'email' }, caller.user?.email), Role: caller.user?.role, Plan: caller.user?.plan,
    }))
    draw()
    outlet.append(card('Details', known, form({ id: 'bio-form' }, async ({ bio }) => {
      changed(await ask('POST', '/session/profile', { bio }))
      draw()
      tell('Your profile is saved.')
    },
    field('About you', { as: 'textarea', name: 'bio', rows: '3', maxlength: '500', value: user.bio }),
    h('button', { class: 'first' }, 'Save'))))
  },
}
