/** A new account. */
import { ask } from '../ask.js'
import { card, field, form, h } from '../dom.js'

/** @type {import('../pages.js').Page} */
export default {
  show (outlet, { caller, tell, go }) {
    const element = card('About you', form({ id: 'register-form' }, async (values, sent) => {
      await ask('POST', '/auth/register', values)
      sent.reset()
      go('sign-in')
      if (caller.registration === 'quiet') tell('A mail was sent to the address that you gave: it says how to go on.')
      else tell(caller.mail ? 'The account is yours: sign in, and confirm your address by the mail that was sent to it.' : 'The account is yours: sign in.')
    },
    field('Name', { name: 'username', autocomplete: 'username', autocapitalize: 'none', spellcheck: 'false', required: true, minlength: '3', maxlength: '50', pattern: '[A-Za-z0-9_]+', title: 'Letters, digits and _' }),
    field('E-mail', { name: 'email', type: 'email', autocomplete: 'email', required: true, maxlength: '254' }),
    field('Password', { name: 'password', type: 'password', autocomplete: 'new-password', required: true, maxlength: '1024', hint: 'A long one that is used nowhere else. Pasting it is fine.' }),
    h('button', { class: 'first' }, 'Create the account')))
    element.classList.add('narrow')
    outlet.append(element)
  },
}
