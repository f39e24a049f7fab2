/** A forgotten password: a mail is asked for, and its link opened here (`#recover/<token>`). */
import { ask } from '../ask.js'
import { card, field, form, h } from '../dom.js'

/** @type {import('../pages.js').Page} */
export default {
  show (outlet, { caller, path: [token], tell, go }) {
    // It is good once, and for who has the mail: it is not left in the address.
    if (token !== undefined) window.history.replaceState(null, '', '#recover')
    const element = token === undefined ? forgotten() : chosen(token)
    element.classList.add('narrow')
    outlet.append(element)

    function forgotten () {
      if (!caller.mail) return card('By mail', h('p', {}, 'This portal sends no mails. Ask an administrator.'))
      return card('By mail', form({ id: 'forgot-form' }, async (values, sent) => {
        await ask('POST', '/auth/forgot', values)
        sent.reset()
        tell('If an account has this address, a mail is on its way to it. Its link is good for half an hour.')
      },
      field('E-mail of your account', { name: 'email', type: 'email', autocomplete: 'email', required: true, maxlength: '254' }),
      h('button', { class: 'first' }, 'Send the mail')))
    }

    /** @param {string} token */
    function chosen (token) {
      return card('By the mail', form({ id: 'reset-form' }, async ({ newPassword }, sent) => {
        await ask('POST', '/auth/reset', { token, newPassword })
        sent.reset()
        go('sign-in')
        tell('The new password is yours. Sign in with it.')
      },
      field('New password', { name: 'newPassword', type: 'password', autocomplete: 'new-password', required: true, maxlength: '1024' }),
      h('button', { class: 'first' }, 'Save')))
    }
  },
}
