/** The portal's page. What comes from the portal is shown as text, never as markup; what is secret is gone from the page after the sign-out. */

const CSRF_REFUSED = 'FST_BASTION_CSRF_REFUSED'
const MFA_REQUIRED = 'FST_BASTION_MFA_REQUIRED'
const STEP_UP_REQUIRED = 'FST_BASTION_STEP_UP_REQUIRED'
const SIGNED_OUT = ['FST_BASTION_SESSIONS_INVALID', 'FST_BASTION_ACCESS_UNAUTHENTICATED']
/** Who was never signed in here need not ask whether they are. */
const WAS_HERE = 'was-here'
/** What browsers call the ends of a ceremony. */
const CEREMONY = {
  NotAllowedError: 'No passkey was used',
  AbortError: 'No passkey was used',
  InvalidStateError: 'This device has a passkey of yours already',
  SecurityError: 'Passkeys are for the name of this service: open it by that, and not by its address',
}

const at = id => document.getElementById(id)
const time = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'short' })

/** Null: unknown as yet. It changes with the session. */
let csrfToken = null
/** Of a sign-in whose password was right. */
let mfaToken = null
let hasPasskeys = false

/** What the portal refused, in its own words. */
class Refused extends Error {
  constructor ({ detail, title, code, errors = [], factors = [], mfaToken }) {
    super([detail ?? title, ...errors.map(({ path, message }) => `${path.slice(1)} ${message}`)].join(': '))
    Object.assign(this, { code, factors, mfaToken })
  }
}

/** Asks the portal. Where it wants to know again who asks, they are asked, and it is asked once more. */
async function ask (method, url, body, isAgain = false) {
  const isUnsafe = method !== 'GET'
  if (isUnsafe && csrfToken === null) csrfToken = (await ask('GET', '/csrf-token')).csrfToken
  const answer = await fetch(url, {
    method,
    headers: { ...isUnsafe && { 'x-csrf-token': csrfToken }, ...body !== undefined && { 'content-type': 'application/json' } },
    ...body !== undefined && { body: JSON.stringify(body) },
  })
  const content = answer.status === 204 ? null : await answer.json()
  if (answer.ok) {
    csrfToken = content?.csrfToken ?? csrfToken
    return content
  }
  if (content.code === STEP_UP_REQUIRED) {
    await confirmIdentity()
    return ask(method, url, body)
  }
  // Another tab signed in or out: the token is that of the session before.
  if (content.code === CSRF_REFUSED && !isAgain) {
    csrfToken = null
    return ask(method, url, body, true)
  }
  throw new Refused(content)
}

/** Does what an element is for when it is used, one at a time in its card, and shows there what went wrong. */
function on (id, event, action) {
  const element = at(id)
  element.addEventListener(event, raised => {
    raised.preventDefault()
    run(element, () => action(element))
  })
}

async function run (element, action) {
  const card = element.closest('.card, dialog') ?? at('profile')
  if (card.ariaBusy === 'true') return
  card.ariaBusy = 'true'
  at('status').textContent = ''
  await attempt(card, action)
  card.ariaBusy = 'false'
}

async function attempt (card, action) {
  const alert = card.querySelector('[role=alert]')
  alert.textContent = ''
  try {
    await action()
  } catch (error) {
    if (SIGNED_OUT.includes(error.code) && !at('account').hidden) leave('You are signed out. Sign in again.')
    else alert.textContent = error instanceof Refused ? error.message : CEREMONY[error.name] ?? 'The portal cannot be reached. Try again.'
  }
}

const valuesOf = form => Object.fromEntries(new FormData(form))

function tell (text) {
  at('status').textContent = text
}

/** Shows one of the three views, and takes the keyboard and the screen reader there. */
function show (view) {
  for (const id of ['welcome', 'second', 'account']) at(id).hidden = id !== view
  at('here').hidden = view !== 'account'
  const place = at(view).querySelector('input:not([hidden])')
  if (view === 'account' || place.closest('[hidden]') !== null) at(view).querySelector('h2').focus()
  else place.focus()
}

/** Shows only what belongs to the factors that can be shown, and asks for nothing else. */
function offer (area, factors) {
  for (const element of area.querySelectorAll('[data-factor]')) {
    element.hidden = !element.dataset.factor.split(' ').some(factor => factors.includes(factor))
    const field = element.querySelector('input')
    if (field !== null) field.disabled = element.hidden
  }
}

// Signing in and out

function enter ({ user }) {
  mfaToken = null
  forget()
  window.localStorage.setItem(WAS_HERE, 'yes')
  showProfile(user)
  show('account')
  attempt(at('passkeys'), showPasskeys)
  attempt(at('devices'), showDevices)
}

function leave (message) {
  csrfToken = null
  mfaToken = null
  window.localStorage.removeItem(WAS_HERE)
  forget()
  show('welcome')
  tell(message)
}

/** Nothing of an account stays in the page. */
function forget () {
  for (const form of document.forms) form.reset()
  for (const element of document.querySelectorAll('[data-field], ul, [role=alert]')) element.textContent = ''
  at('bio-form').elements.bio.defaultValue = ''
  hasPasskeys = false
  endEnrolment()
  at('confirm').close()
}

on('sign-in', 'submit', async form => {
  try {
    enter(await ask('POST', '/session/login', valuesOf(form)))
  } catch (error) {
    if (error.code !== MFA_REQUIRED) throw error
    forget()
    mfaToken = error.mfaToken
    offer(at('second'), error.factors)
    show('second')
  }
})

on('sign-in-passkey', 'click', async () => {
  enter(await ask('POST', '/session/passkey', await showPasskey()))
})

on('second-form', 'submit', async form => {
  enter(await ask('POST', '/session/mfa', { mfaToken, ...valuesOf(form) }))
})

on('second-passkey', 'click', async () => {
  enter(await ask('POST', '/session/mfa', { mfaToken, passkey: await showPasskey({ mfaToken }) }))
})

on('second-cancel', 'click', () => leave(''))

on('sign-out', 'click', async () => {
  await ask('POST', '/session/logout')
  leave('You are signed out.')
})

// Step-up

/** Asks who it is; rejects where they do not say. */
function confirmIdentity () {
  const dialog = at('confirm')
  offer(dialog, hasPasskeys ? ['password', 'passkey'] : ['password'])
  dialog.returnValue = ''
  dialog.showModal()
  return new Promise((resolve, reject) => {
    dialog.addEventListener('close', () => {
      for (const field of at('confirm-form').querySelectorAll('[name]')) field.value = ''
      dialog.querySelector('[role=alert]').textContent = ''
      if (dialog.returnValue === 'confirmed') resolve()
      else reject(new Refused({ detail: 'Not confirmed: nothing was changed' }))
    }, { once: true })
  })
}

on('confirm-form', 'submit', async form => {
  try {
    await ask('POST', '/session/step-up', valuesOf(form))
    at('confirm').close('confirmed')
  } catch (error) {
    if (error.code !== MFA_REQUIRED) throw error
    form.elements.password.value = ''
    offer(at('confirm'), error.factors)
    form.querySelector('label:not([hidden]) input')?.focus()
  }
})

on('confirm-passkey', 'click', async () => {
  await ask('POST', '/session/step-up', { passkey: await showPasskey({ stepUp: true }) })
  at('confirm').close('confirmed')
})

on('confirm-cancel', 'click', () => at('confirm').close())

// Profile

function showProfile (user) {
  for (const element of at('profile').querySelectorAll('[data-field]')) element.textContent = user[element.dataset.field]
  at('bio-form').elements.bio.value = user.bio ?? ''
  // For those who keep passwords: whose it is.
  at('confirm-name').value = user.username
}

on('bio-form', 'submit', async form => {
  showProfile(await ask('POST', '/session/profile', { bio: form.elements.bio.value }))
  tell('Your profile is saved.')
})

// Authenticator

function endEnrolment () {
  at('enrol-form').reset()
  at('qr').removeAttribute('src')
  for (const id of ['secret', 'recovery-codes']) at(id).textContent = ''
  for (const id of ['enrol-form', 'recovery']) at(id).hidden = true
  at('enrol-begin').hidden = false
}

on('enrol', 'click', async () => {
  const { secret, qr } = await ask('POST', '/mfa/enroll')
  // As an image it can run nothing.
  at('qr').src = `data:image/svg+xml,${encodeURIComponent(qr)}`
  at('secret').textContent = secret
  at('enrol-begin').hidden = true
  at('enrol-form').hidden = false
  at('enrol-form').elements.code.focus()
})

on('enrol-form', 'submit', async form => {
  const { recoveryCodes } = await ask('POST', '/mfa/confirm', valuesOf(form))
  endEnrolment()
  at('enrol-begin').hidden = true
  at('recovery-codes').replaceChildren(...recoveryCodes.map(code => {
    const item = document.createElement('li')
    item.append(Object.assign(document.createElement('code'), { textContent: code }))
    return item
  }))
  at('recovery').hidden = false
  at('recovery-title').focus()
  tell('The authenticator is set up. Other devices are signed out.')
  await showDevices()
})

on('enrol-cancel', 'click', () => endEnrolment())

on('recovery-done', 'click', () => {
  endEnrolment()
  at('enrol').focus()
})

on('disable', 'click', async () => {
  await ask('DELETE', '/mfa')
  tell('There is no authenticator now.')
})

// Passkeys

/** What the authenticator answers to a question of the portal. */
async function showPasskey (purpose) {
  const publicKey = window.PublicKeyCredential.parseRequestOptionsFromJSON(await ask('POST', '/passkeys/login/options', purpose))
  return (await navigator.credentials.get({ publicKey })).toJSON()
}

on('passkey-form', 'submit', async form => {
  const name = valuesOf(form).name.trim()
  const publicKey = window.PublicKeyCredential.parseCreationOptionsFromJSON(await ask('POST', '/passkeys/register/options'))
  const passkey = await navigator.credentials.create({ publicKey })
  await ask('POST', '/passkeys/register', { ...passkey.toJSON(), ...name !== '' && { name } })
  form.reset()
  tell('The passkey is added. Other devices are signed out.')
  await Promise.all([showPasskeys(), showDevices()])
})

async function showPasskeys () {
  const { items } = await ask('GET', '/passkeys')
  hasPasskeys = items.length > 0
  list('passkey-list', 'There is none yet.', items.map(({ id, name, createdAt, lastUsedAt }) => ({
    name,
    more: `added ${told(createdAt)}, ${lastUsedAt === null ? 'not used yet' : `last used ${told(lastUsedAt)}`}`,
    label: 'Remove',
    async action () {
      await ask('DELETE', `/passkeys/${encodeURIComponent(id)}`)
      tell(`The passkey ${name} is removed.`)
      at('passkeys-title').focus()
      await showPasskeys()
    },
  })))
}

// Devices

async function showDevices () {
  const { items } = await ask('GET', '/sessions')
  list('device-list', 'None.', items.map(({ id, userAgent, address, lastSeenAt, isCurrent }) => ({
    name: browserOf(userAgent),
    more: `${address}, ${isCurrent ? 'this device' : `last seen ${told(lastSeenAt)}`}`,
    label: isCurrent ? null : 'End',
    async action () {
      await ask('DELETE', `/sessions/${encodeURIComponent(id)}`)
      tell('That device is signed out.')
      at('devices-title').focus()
      await showDevices()
    },
  })))
}

/** What people call it; the whole text says more than they want to know. */
function browserOf (userAgent) {
  const [, name = 'Another program'] = /(Edg|OPR|Firefox|Chrome|Safari|curl)[^ /]*\/\d/.exec(userAgent.replace(/(Chrome|Safari)\/\S+(?=.*(Edg|OPR)\/)/g, '')) ?? []
  const [, system] = /(Android|iPhone|iPad|Windows|Mac OS X|Linux)/.exec(userAgent) ?? []
  const known = { Edg: 'Edge', OPR: 'Opera' }[name] ?? name
  return system === undefined ? known : `${known} on ${system.replace('Mac OS X', 'macOS')}`
}

const told = text => time.format(new Date(text))

function list (id, none, items) {
  const rows = items.map(({ name, more, label, action }) => {
    const row = at('item').content.cloneNode(true)
    const [title, quiet] = row.querySelectorAll('span')
    const button = row.querySelector('button')
    title.textContent = name
    quiet.textContent = more
    if (label === null) button.remove()
    else {
      button.textContent = label
      button.ariaLabel = `${label}: ${name}, ${more}`
      button.addEventListener('click', () => run(button, action))
    }
    return row
  })
  at(id).replaceChildren(...rows)
  if (rows.length === 0) at(id).append(Object.assign(document.createElement('li'), { className: 'quiet', textContent: none }))
}

for (const element of document.querySelectorAll('[data-origin]')) element.textContent = window.location.origin
if (window.PublicKeyCredential?.parseRequestOptionsFromJSON === undefined) for (const button of document.querySelectorAll('[data-passkey]')) button.remove()
if (window.localStorage.getItem(WAS_HERE) === null) show('welcome')
else ask('GET', '/session/me').then(user => enter({ user }), () => leave(''))
