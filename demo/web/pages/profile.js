/** One's own profile: seen and changed; the address, which has to be confirmed; the password. */
import { ask } from '../ask.js'
import { badge, card, day, facts, field, form, h } from '../dom.js'

/** @import { Context, Page } from '../pages.js' */

/** @type {Page} */
export default {
  show (outlet, context) {
    outlet.append(h('div', { class: 'grid' }, detailsCard(context), h('div', { class: 'page' }, addressCard(context), passwordCard(context))))
  },
}

/** @param {Context} context */
function detailsCard ({ caller, tell, changed }) {
  const known = h('div')
  draw()
  return card('Details', known, form({ id: 'profile-form' }, async values => {
    const user = /** @type {Record<string, unknown>} */ ({ ...caller.user })
    const news = Object.fromEntries(Object.entries(values).filter(([name, value]) => value !== (user[name] ?? '')))
    if (Object.keys(news).length > 0) changed(await ask('POST', '/session/profile', news))
    draw()
    tell('Your profile is saved.')
  },
  field('Name', { name: 'username', value: caller.user?.username, autocomplete: 'username', autocapitalize: 'none', spellcheck: 'false', required: true, minlength: '3', maxlength: '50', pattern: '[A-Za-z0-9_]+', title: 'Letters, digits and _' }),
  field('Phone', { name: 'phone', type: 'tel', value: caller.user?.phone, autocomplete: 'tel', maxlength: '16', hint: 'With the country: +491701234567' }),
  field('Website', { name: 'website', type: 'url', value: caller.user?.website, autocomplete: 'url', maxlength: '2000' }),
  field('About you', { as: 'textarea', name: 'bio', rows: '3', maxlength: '500', value: caller.user?.bio }),
  h('button', { class: 'first' }, 'Save')))

  function draw () {
    const { user } = caller
    if (user !== null) known.replaceChildren(facts({ Name: user.username, Role: user.role, Plan: user.plan, Since: day(user.createdAt) }))
  }
}

/** @param {Context} context */
function addressCard ({ caller, tell, changed }) {
  const known = h('div')
  draw()
  return card('E-mail', known, form({ id: 'email-form' }, async ({ email }, sent) => {
    changed(await ask('PATCH', '/users/me', { email }))
    sent.reset()
    draw()
    tell(caller.mail ? 'Your address is changed. Confirm it by the mail that was sent to it.' : 'Your address is changed.')
  },
  field('New address', { name: 'email', type: 'email', autocomplete: 'email', required: true, maxlength: '254' }),
  h('button', {}, 'Change the address')))

  function draw () {
    const { user } = caller
    if (user !== null) known.replaceChildren(h('p', {}, h('span', { 'data-field': 'email' }, user.email), ' ', user.emailConfirmed ? badge('confirmed', 'good') : badge('not confirmed', 'warn')))
  }
}

/** @param {Context} context */
function passwordCard ({ caller, tell }) {
  return card('Password', form({ id: 'password-form' }, async (values, sent) => {
    await ask('POST', '/auth/password', values)
    sent.reset()
    tell('Your password is changed. Other devices are signed out.')
  },
  h('input', { autocomplete: 'username', readonly: true, hidden: true, value: caller.user?.username ?? '' }),
  field('Password until now', { name: 'currentPassword', type: 'password', autocomplete: 'current-password', required: true, maxlength: '1024' }),
  field('New password', { name: 'newPassword', type: 'password', autocomplete: 'new-password', required: true, maxlength: '1024' }),
  h('button', {}, 'Change the password')))
}
