/** Signing in: by password, with a second factor where the account has one, or by a passkey alone. */
import { ask, hasPasskeys, Refused, showPasskey } from '../ask.js'
import { button, card, field, form, h } from '../dom.js'
import { factor, offer } from '../confirm.js'

/** @import { Context, Page } from '../pages.js' */

/** @type {Page} */
export default {
  show (outlet, { caller, enter }) {
    const first = form({ id: 'sign-in' }, async values => {
      try {
        await enter((await ask('POST', '/session/login', values)).user)
      } catch (error) {
        if (!(error instanceof Refused && error.isMfaRequired)) throw error
        askForSecond(outlet, error, enter, begin)
      }
    },
    field('Name', { name: 'username', autocomplete: 'username webauthn', autocapitalize: 'none', spellcheck: 'false', required: true, maxlength: '50' }),
    field('Password', { name: 'password', type: 'password', autocomplete: 'current-password', required: true, maxlength: '1024' }),
    h('div', { class: 'toolbar wide' },
      h('button', { class: 'first' }, 'Sign in'),
      hasPasskeys && button('Sign in with a passkey', async () => enter((await ask('POST', '/session/passkey', await showPasskey())).user))))
    const welcome = card('With your name', first, h('p', { class: 'quiet more' },
      h('a', { href: '#register' }, 'Create an account'), caller.mail && [' · ', h('a', { href: '#recover' }, 'Forgotten your password?')]))
    welcome.classList.add('narrow')

    function begin () {
      first.reset()
      outlet.replaceChildren(welcome)
      first.querySelector('input')?.focus()
    }
    begin()
    return () => first.reset()
  },
}

/** @type {(outlet: HTMLElement, refused: Refused, enter: Context['enter'], begin: () => void) => void} */
function askForSecond (outlet, { factors, mfaToken }, enter, begin) {
  const second = card('One more step',
    h('p', { class: 'quiet' }, 'The password is right. Show your second factor to go on.'),
    form({}, async values => enter((await ask('POST', '/session/mfa', { mfaToken, ...values })).user),
      factor('totp', field('Code of your authenticator, or a recovery code', { name: 'code', autocomplete: 'one-time-code', required: true, maxlength: '64' })),
      h('div', { class: 'toolbar wide' },
        factor('totp', h('button', { class: 'first' }, 'Go on')),
        hasPasskeys && factor('passkey', button('Use a passkey', async () => {
          await enter((await ask('POST', '/session/mfa', { mfaToken, passkey: await showPasskey({ mfaToken }) })).user)
        })),
        button('Cancel', begin))))
  second.id = 'second'
  second.classList.add('narrow')
  outlet.replaceChildren(second)
  offer(second, factors)
}
