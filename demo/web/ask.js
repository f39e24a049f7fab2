/**
 * Asks the portal: with the CSRF token of the session, and with whom this page acts for, so that nothing is done or shown for somebody else who signed in
 * beside it. Where the portal wants to know again who asks, they are asked.
 */

const CSRF_REFUSED = 'FST_BASTION_CSRF_REFUSED'
const MFA_REQUIRED = 'FST_BASTION_MFA_REQUIRED'
const OTHER_USER = 'FST_PORTAL_OTHER_USER'
const STEP_UP_REQUIRED = 'FST_BASTION_STEP_UP_REQUIRED'
const SIGNED_OUT = ['FST_BASTION_SESSIONS_INVALID', 'FST_BASTION_ACCESS_UNAUTHENTICATED']
const SAFE = ['GET', 'HEAD']
/** What browsers call the ends of a ceremony with a passkey. */
const CEREMONY = /** @type {Record<string, string>} */ ({
  NotAllowedError: 'No passkey was used',
  AbortError: 'No passkey was used',
  InvalidStateError: 'This device has a passkey of yours already',
  SecurityError: 'Passkeys are for the name of this service: open it by that, and not by its address',
})

/** Events of the window: nobody is signed in any more; somebody else is. */
export const OVER = 'portal-over'
export const OTHER = 'portal-other'

/** @typedef {{ status: number, content: any, retryAfter: number | null }} Answer */
/** @typedef {string | null | undefined} Whom An id; null: nobody; undefined: whoever it is */
/**
 * @typedef {object} Request
 * @property {string} method
 * @property {string} url
 * @property {(headers: Record<string, string>) => Promise<Answer>} send
 * @property {AbortSignal | undefined} signal Whose end ends the request
 * @property {AbortSignal | undefined} page Of the page where it was begun: once that is left, nothing of it is asked or begun any more
 * @property {Whom} whom For whom it was begun
 */

/** What the portal refused, in its own words. */
export class Refused extends Error {
  /** @param {{ detail?: string, title?: string, code?: string, status?: number, errors?: { path: string, message: string }[], factors?: string[], mfaToken?: string }} problem @param {number | null} [retryAfter] */
  constructor ({ detail, title, code = '', status = 0, errors = [], factors = [], mfaToken }, retryAfter = null) {
    super([detail ?? title ?? 'The portal refused', ...errors.map(({ path, message }) => `${path.slice(1)} ${message}`)].join(': '))
    this.code = code
    this.status = status
    this.factors = factors
    this.mfaToken = mfaToken
    /** Seconds, or null. */
    this.retryAfter = retryAfter
  }

  /** A second factor is asked for. */
  get isMfaRequired () {
    return this.code === MFA_REQUIRED
  }
}

/** It did not answer. */
export class Unreachable extends Error {
  constructor () {
    super('The portal cannot be reached. Try again.')
  }
}

/** It changes with the session. @type {Promise<string> | null} */
let csrfToken = null
/** Whose session it is as far as this page knows. @type {Whom} */
let knownId
/** Of the page that is open. @type {AbortSignal | undefined} */
let openPage

/** The page shows what is this user's from now on; null: nobody's. @param {string | null} id */
export function know (id) {
  if (id !== knownId) csrfToken = null
  knownId = id
}

/** What is asked from now on belongs to another page: until the signal. @param {AbortSignal} signal */
export function opened (signal) {
  openPage = signal
}

/** Headers of what a page asks by itself. */
export const acting = () => actingFor(knownId)

/** Says whom it is for. @param {Whom} whom @returns {Record<string, string>} */
function actingFor (whom) {
  return whom === undefined ? {} : { 'x-expected-user': whom ?? '' }
}

/**
 * @param {string} method
 * @param {string} url
 * @param {unknown} [body] sent as JSON
 * @param {{ signal?: AbortSignal, whom?: Whom }} [options] `whom` it is for. Default: whom the page is for
 * @returns {Promise<any>} what the portal answers: JSON, or text; null where it is nothing
 * @throws Refused, Unreachable
 */
export function ask (method, url, body, { signal, ...options } = {}) {
  return begin(method, url, async headers => {
    const answer = await fetch(url, {
      method,
      signal,
      headers: { ...headers, ...body !== undefined && { 'content-type': 'application/json' } },
      ...body !== undefined && { body: JSON.stringify(body) },
    })
    return { status: answer.status, content: read(answer.headers.get('content-type'), await answer.text()), retryAfter: secondsOf(answer.headers.get('retry-after')) }
  }, signal, 'whom' in options ? options.whom : knownId)
}

/**
 * The same for what is large: sends a form, or a file as it is.
 *
 * @param {string} method
 * @param {string} url
 * @param {FormData | Blob} body
 * @param {{ onprogress?: (part: number) => void, signal?: AbortSignal }} [options] `part` of what is sent, from 0 to 1
 * @returns {Promise<any>}
 * @throws Refused, Unreachable
 */
export function upload (method, url, body, { onprogress, signal } = {}) {
  return begin(method, url, headers => new Promise((resolve, reject) => {
    const request = new XMLHttpRequest()
    request.open(method, url)
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value)
    request.upload.onprogress = ({ loaded, total }) => { onprogress?.(total === 0 ? 1 : loaded / total) }
    request.onload = () => { resolve({ status: request.status, content: read(request.getResponseHeader('content-type'), request.responseText), retryAfter: secondsOf(request.getResponseHeader('retry-after')) }) }
    request.onerror = () => { reject(new TypeError('not sent')) }
    request.onabort = () => { reject(signal?.reason ?? new DOMException('', 'AbortError')) }
    signal?.addEventListener('abort', () => { request.abort() }, { once: true })
    request.send(body)
  }), signal, knownId)
}

/** @type {(method: string, url: string, send: Request['send'], signal: AbortSignal | undefined, whom: Whom) => Promise<any>} */
function begin (method, url, send, signal, whom) {
  return settle({ method, url, send, signal, page: openPage, whom })
}

/**
 * @param {Request} request
 * @param {boolean} [isAgain]
 * @returns {Promise<any>}
 */
async function settle (request, isAgain = false) {
  const { method, url, send, signal, page, whom } = request
  const answer = await reached(async () => send({ ...actingFor(whom), ...!SAFE.includes(method) && { 'x-csrf-token': await tokenOf() } }), signal)
  const { status, content, retryAfter } = answer
  if (status < 400) {
    if (typeof content?.csrfToken === 'string') csrfToken = Promise.resolve(content.csrfToken)
    return content
  }
  const refused = new Refused(typeof content === 'object' && content !== null ? content : { title: `The portal answered ${status}`, status }, retryAfter)
  if (refused.code === STEP_UP_REQUIRED) {
    const { confirmIdentity } = await import('./confirm.js')
    await confirmIdentity(method, url, page)
    // Who has left the page meanwhile does not want it any more.
    for (const one of [page, signal]) one?.throwIfAborted()
    return settle(request)
  }
  // Another tab signed in: the token is that of the session before. For somebody else the portal does nothing: it is told whom this is for.
  if (refused.code === CSRF_REFUSED && !isAgain) {
    csrfToken = null
    return settle(request, true)
  }
  if (whom === knownId && whom !== undefined) {
    if (refused.code === OTHER_USER) window.dispatchEvent(new Event(OTHER))
    if (SIGNED_OUT.includes(refused.code) && whom !== null) window.dispatchEvent(new Event(OVER))
  }
  throw refused
}

/** @type {(send: () => Promise<Answer>, signal: AbortSignal | undefined) => Promise<Answer>} */
async function reached (send, signal) {
  try {
    return await send()
  } catch (error) {
    if (signal?.aborted || error instanceof Refused) throw error
    throw new Unreachable()
  }
}

/** @returns {Promise<string>} */
function tokenOf () {
  csrfToken ??= ask('GET', '/csrf-token').then(answer => answer.csrfToken).catch(error => {
    csrfToken = null
    throw error
  })
  return csrfToken
}

/** @type {(type: string | null, text: string) => any} */
function read (type, text) {
  if (text === '') return null
  return /^application\/(?:[a-z.+-]+\+)?json\b/i.test(type ?? '') ? JSON.parse(text) : text
}

/** @param {string | null} text */
function secondsOf (text) {
  return text !== null && /^\d+$/.test(text) ? Number(text) : null
}

/**
 * What the authenticator answers to a question of the portal.
 *
 * @param {object} [purpose]
 * @param {{ signal?: AbortSignal }} [options]
 */
export async function showPasskey (purpose, { signal } = {}) {
  const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(await ask('POST', '/passkeys/login/options', purpose, { signal }))
  return ceremony(() => navigator.credentials.get({ publicKey, signal }))
}

/**
 * What comes of a ceremony with a passkey, to be sent.
 *
 * @param {() => Promise<Credential | null>} begin
 * @throws Refused in words, where it ended otherwise
 */
export async function ceremony (begin) {
  try {
    return /** @type {PublicKeyCredential} */ (await begin()).toJSON()
  } catch (error) {
    const detail = error instanceof DOMException ? CEREMONY[error.name] : undefined
    throw detail === undefined ? error : new Refused({ detail })
  }
}

/** This browser has passkeys, and JSON for them. */
export const hasPasskeys = typeof window.PublicKeyCredential?.parseRequestOptionsFromJSON === 'function'
