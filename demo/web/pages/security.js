/** What somebody signs in with beside the password: an authenticator app, and passkeys. */
import { ask, ceremony, hasPasskeys } from '../ask.js'
import { attempt, badge, button, card, field, form, h, item, list, told } from '../dom.js'

/** @import { Page, Context } from '../pages.js' */

/** @type {Page} */
export default {
  async show (outlet, context) {
    const cards = [authenticatorCard(context), passkeyCard(context)]
    outlet.append(h('div', { class: 'grid' }, cards.map(({ element }) => element)))
    await Promise.all(cards.map(({ load }) => load()))
  },
}

/** @param {Context} context */
function authenticatorCard ({ tell, signal }) {
  const place = h('div')
  const element = card('Authenticator app', h('p', { class: 'quiet' }, 'With one, signing in takes a code of it beside the password.'), place)

  async function load () {
    await attempt(element, async () => {
      const { factors } = await ask('GET', '/mfa', undefined, { signal })
      const isThere = factors.includes('totp')
      place.replaceChildren(h('p', {}, isThere ? badge('set up', 'good') : badge('not set up', 'warn')), h('div', { class: 'toolbar' },
        button(isThere ? 'Set up another' : 'Set up an authenticator', async () => enrol(await ask('POST', '/mfa/enroll')), { id: 'enrol', class: isThere ? null : 'first' }),
        isThere && button('Remove it', async () => {
          await ask('DELETE', '/mfa')
          tell('There is no authenticator now.')
          await again()
        })))
    })
  }

  /** What was shown once is gone at once. */
  async function again () {
    place.replaceChildren()
    await load()
    element.querySelector('h2')?.focus()
  }

  /** @param {{ secret: string, qr: string }} begun */
  function enrol ({ secret, qr }) {
    place.replaceChildren(form({ id: 'enrol-form' }, async values => keep((await ask('POST', '/mfa/confirm', values)).recoveryCodes),
      h('p', {}, 'Scan this with your app, or type the secret into it.'),
      // As an image it can run nothing.
      h('img', { id: 'qr', class: 'qr', alt: 'QR code that holds the secret below', src: `data:image/svg+xml,${encodeURIComponent(qr)}` }),
      h('p', {}, 'Secret: ', h('code', { id: 'secret' }, secret)),
      field('Code that the app shows now', { name: 'code', inputmode: 'numeric', autocomplete: 'one-time-code', required: true, maxlength: '6', pattern: '[0-9]{6}', title: 'Six digits' }),
      h('div', { class: 'toolbar' }, h('button', { class: 'first' }, 'Confirm'), button('Cancel', again))))
    place.querySelector('input')?.focus()
  }

  /** @param {string[]} codes */
  function keep (codes) {
    const title = h('h3', { tabindex: '-1' }, 'Recovery codes')
    place.replaceChildren(title,
      h('p', {}, 'Keep these where you keep what matters: each signs in once without the app. They are shown this once.'),
      h('ol', { id: 'recovery-codes' }, codes.map(code => h('li', {}, h('code', {}, code)))),
      button('I have kept them', again))
    title.focus()
    tell('The authenticator is set up. Other devices are signed out.')
  }

  return { element, load }
}

/** @param {Context} context */
function passkeyCard ({ tell, signal }) {
  const rows = h('div')
  const element = card('Passkeys',
    h('p', { class: 'quiet' }, 'A passkey signs in alone, without a password, and cannot be shown to a false page.'),
    rows,
    hasPasskeys && form({ id: 'passkey-form' }, async ({ name = '' }, sent) => {
      const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(await ask('POST', '/passkeys/register/options', undefined, { signal }))
      const passkey = await ceremony(() => navigator.credentials.create({ publicKey, signal }))
      await ask('POST', '/passkeys/register', { ...passkey, ...name.trim() !== '' && { name: name.trim() } }, { signal })
      sent.reset()
      tell('The passkey is added. Other devices are signed out.')
      await load()
    },
    field('Name of the new passkey', { name: 'name', placeholder: 'This device', maxlength: '100' }),
    h('button', { class: 'first' }, 'Add a passkey')))

  async function load () {
    await attempt(element, async () => {
      const { items } = await ask('GET', '/passkeys', undefined, { signal })
      rows.replaceChildren(list(items.map(drawn), 'There is none yet.'))
    })
  }

  /** @param {{ id: string, name: string, createdAt: string, lastUsedAt: string | null }} passkey */
  function drawn ({ id, name, createdAt, lastUsedAt }) {
    const more = `added ${told(createdAt)}, ${lastUsedAt === null ? 'not used yet' : `last used ${told(lastUsedAt)}`}`
    return item(name, more, button('Remove', async () => {
      await ask('DELETE', `/passkeys/${encodeURIComponent(id)}`)
      tell(`The passkey ${name} is removed.`)
      element.querySelector('h2')?.focus()
      await load()
    }, { 'aria-label': `Remove: ${name}, ${more}` }))
  }

  return { element, load }
}
