/** Asks somebody who is signed in to show again who they are. */
import { ask, hasPasskeys, Refused, showPasskey } from './ask.js'
import { button, field, form, h } from './dom.js'

/** @typedef {'password' | 'totp' | 'passkey'} Factor */

/** What is asked for, as people call it: whoever confirms sees what they confirm. @type {readonly (readonly [string, RegExp, string])[]} */
const PURPOSES = [
  ['PATCH', /^\/users\/me$/, 'to change your address'],
  ['DELETE', /^\/users\/me$/, 'to delete your account'],
  ['GET', /^\/users\/me\/export$/, 'to read all that the portal holds about you'],
  ['POST', /^\/mfa\//, 'to set up an authenticator'],
  ['DELETE', /^\/mfa$/, 'to remove the authenticator'],
  ['POST', /^\/passkeys\//, 'to add a passkey'],
  ['DELETE', /^\/passkeys\//, 'to remove a passkey'],
  ['POST', /^\/api-keys$/, 'to make an API key'],
  ['POST', /^\/api-keys\//, 'to replace an API key'],
  ['PATCH', /^\/api-keys\//, 'to change an API key'],
  ['DELETE', /^\/api-keys\//, 'to delete an API key'],
  ['PATCH', /^\/users\/[^/]+\/role$/, 'to give somebody another role'],
  ['PATCH', /^\/users\/[^/]+\/active$/, 'to activate or deactivate an account'],
  ['POST', /^\/users\/[^/]+\/unlock$/, 'to unlock an account'],
  ['DELETE', /^\/users\/[^/]+\/sessions$/, 'to sign somebody out everywhere'],
  ['DELETE', /^\/users\/[^/]+\/factors$/, 'to take away factors and keys of somebody'],
  ['DELETE', /^\/users\/[^/]+$/, 'to delete the account of somebody'],
]

/** One at a time: who asks meanwhile in the same page waits for the same answer. @type {{ page: AbortSignal | undefined, purposes: Set<string>, place: HTMLElement, done: Promise<void> } | null} */
let asking = null

/**
 * @param {string} method of what needs it
 * @param {string} url
 * @param {AbortSignal} [page] where it was begun: once that is left, nobody is asked
 * @returns {Promise<void>} once they have
 * @throws Refused where they do not
 */
export function confirmIdentity (method, url, page) {
  page?.throwIfAborted()
  const purpose = PURPOSES.find(([of, path]) => of === method && path.test(url))?.[2] ?? 'to go on'
  if (asking === null || asking.page !== page) {
    const place = h('strong')
    const mine = { page, purposes: new Set([purpose]), place, done: show(place, page).finally(() => { if (asking === mine) asking = null }) }
    asking = mine
  }
  asking.purposes.add(purpose)
  asking.place.textContent = `${[...asking.purposes].join(', and ')}.`
  return asking.done
}

/** @param {HTMLElement} purpose @param {AbortSignal | undefined} signal */
async function show (purpose, signal) {
  const [{ user }, { items }] = await Promise.all([ask('GET', '/portal.json', undefined, { signal }), ask('GET', '/passkeys', undefined, { signal })])
  signal?.throwIfAborted()
  /** @type {HTMLDialogElement} */
  const dialog = h('dialog', { id: 'confirm', 'aria-labelledby': 'confirm-title', 'aria-describedby': 'confirm-purpose' },
    h('h2', { id: 'confirm-title' }, 'Confirm that it is you'),
    h('p', { id: 'confirm-purpose' }, 'You are about ', purpose),
    h('p', { class: 'quiet' }, 'It needs a sign-in of the last five minutes.'),
    form({}, values => prove(dialog, values), // what a password manager needs to know: whose it is
      h('input', { autocomplete: 'username', readonly: true, hidden: true, value: user?.username ?? '' }),
      factor('password', field('Password', { name: 'password', type: 'password', autocomplete: 'current-password', required: true, maxlength: '1024' })),
      factor('totp', field('Code of your authenticator, or a recovery code', { name: 'code', autocomplete: 'one-time-code', required: true, maxlength: '64' })),
      h('div', { class: 'toolbar' },
        factor('password totp', h('button', { class: 'first' }, 'Confirm')),
        hasPasskeys && factor('passkey', button('Use a passkey', async () => {
          await ask('POST', '/session/step-up', { passkey: await showPasskey({ stepUp: true }, { signal }) }, { signal })
          dialog.close('confirmed')
        })),
        button('Cancel', () => dialog.close()))),
    h('p', { role: 'alert' }))
  offer(dialog, items.length > 0 ? ['password', 'passkey'] : ['password'])
  document.body.append(dialog)
  dialog.showModal()
  await new Promise(resolve => { dialog.addEventListener('close', resolve, { once: true }) })
  dialog.remove()
  if (dialog.returnValue !== 'confirmed') throw new Refused({ detail: 'Not confirmed: nothing was changed' })
}

/** @type {(dialog: HTMLDialogElement, values: Record<string, string>) => Promise<void>} */
async function prove (dialog, values) {
  try {
    await ask('POST', '/session/step-up', values)
    dialog.close('confirmed')
  } catch (error) {
    if (!(error instanceof Refused && error.isMfaRequired)) throw error
    offer(dialog, error.factors)
  }
}

/** What belongs to these factors alone. @type {(factors: string, element: HTMLElement) => HTMLElement} */
export function factor (factors, element) {
  element.dataset.factor = factors
  return element
}

/**
 * Shows only what belongs to the factors that can be shown, asks for nothing else, and goes to the first field.
 *
 * @type {(area: HTMLElement, factors: readonly string[]) => void}
 */
export function offer (area, factors) {
  for (const element of /** @type {NodeListOf<HTMLElement>} */ (area.querySelectorAll('[data-factor]'))) {
    element.hidden = !String(element.dataset.factor).split(' ').some(one => factors.includes(one))
    const control = element.querySelector('input')
    if (control === null) continue
    control.disabled = element.hidden
    if (element.hidden) control.value = ''
  }
  /** @type {HTMLElement | null} */ (area.querySelector('[data-factor]:not([hidden]) input') ?? area.querySelector('[data-factor]:not([hidden])'))?.focus()
}
