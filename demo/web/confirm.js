/** Asks somebody who is signed in to show again who they are. */
import { ask, hasPasskeys, Refused, showPasskey } from './ask.js'
import { button, field, form, h } from './dom.js'

/** @typedef {'password' | 'totp' | 'passkey'} Factor */

/** One at a time: who asks meanwhile waits for the same answer. @type {Promise<void> | null} */
let asking = null

/**
 * @returns {Promise<void>} once they have
 * @throws Refused where they do not
 */
export function confirmIdentity () {
  asking ??= show().finally(() => { asking = null })
  return asking
}

async function show () {
  const [{ user }, { items }] = await Promise.all([ask('GET', '/portal.json'), ask('GET', '/passkeys')])
  /** @type {HTMLDialogElement} */
  const dialog = h('dialog', { id: 'confirm', 'aria-labelledby': 'confirm-title' },
    h('h2', { id: 'confirm-title' }, 'Confirm that it is you'),
    h('p', { class: 'quiet' }, 'What you are about to do needs a sign-in of the last five minutes.'),
    form({}, values => prove(dialog, values), // what a password manager needs to know: whose it is
      h('input', { autocomplete: 'username', readonly: true, hidden: true, value: user?.username ?? '' }),
      factor('password', field('Password', { name: 'password', type: 'password', autocomplete: 'current-password', required: true, maxlength: '1024' })),
      factor('totp', field('Code of your authenticator, or a recovery code', { name: 'code', autocomplete: 'one-time-code', required: true, maxlength: '64' })),
      h('div', { class: 'toolbar' },
        factor('password totp', h('button', { class: 'first' }, 'Confirm')),
        hasPasskeys && factor('passkey', button('Use a passkey', async () => {
          await ask('POST', '/session/step-up', { passkey: await showPasskey({ stepUp: true }) })
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
