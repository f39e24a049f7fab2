/** Asks the portal: with the CSRF token of the session, and where it wants to know again who asks, they are asked. */

const CSRF_REFUSED = 'FST_BASTION_CSRF_REFUSED'
const MFA_REQUIRED = 'FST_BASTION_MFA_REQUIRED'
const STEP_UP_REQUIRED = 'FST_BASTION_STEP_UP_REQUIRED'
const SIGNED_OUT = ['FST_BASTION_SESSIONS_INVALID', 'FST_BASTION_ACCESS_UNAUTHENTICATED']
const SAFE = ['GET', 'HEAD']

/** Events of the window: nobody is signed in any more; somebody else is. */
export const OVER = 'portal-over'
export const OTHER = 'portal-other'

/** @typedef {{ status: number, content: any, retryAfter: number | null }} Answer */

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
/** Whose session it is as far as this page knows. @type {string | null} */
let knownId = null

/** The page shows what is this user's from now on; null: nobody's. @param {string | null} id */
export function know (id) {
  knownId = id
  if (id === null) csrfToken = null
}

/**
 * @param {string} method
 * @param {string} url
 * @param {unknown} [body] sent as JSON
 * @param {{ signal?: AbortSignal }} [options]
 * @returns {Promise<any>} what the portal answers: JSON, or text; null where it is nothing
 * @throws Refused, Unreachable
 */
export function ask (method, url, body, { signal } = {}) {
  return settle(method, async headers => {
    const answer = await fetch(url, {
      method,
      signal,
      headers: { ...headers, ...body !== undefined && { 'content-type': 'application/json' } },
      ...body !== undefined && { body: JSON.stringify(body) },
    })
    return { status: answer.status, content: read(answer.headers.get('content-type'), await answer.text()), retryAfter: secondsOf(answer.headers.get('retry-after')) }
  }, signal)
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
  return settle(method, headers => new Promise((resolve, reject) => {
    const request = new XMLHttpRequest()
    request.open(method, url)
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value)
    request.upload.onprogress = ({ loaded, total }) => { onprogress?.(total === 0 ? 1 : loaded / total) }
    request.onload = () => { resolve({ status: request.status, content: read(request.getResponseHeader('content-type'), request.responseText), retryAfter: secondsOf(request.getResponseHeader('retry-after')) }) }
    request.onerror = () => { reject(new TypeError('not sent')) }
    request.onabort = () => { reject(signal?.reason ?? new DOMException('', 'AbortError')) }
    signal?.addEventListener('abort', () => { request.abort() }, { once: true })
    request.send(body)
  }), signal)
}

/**
 * @param {string} method
 * @param {(headers: Record<string, string>) => Promise<Answer>} send
 * @param {AbortSignal | undefined} signal
 * @param {boolean} [isAgain]
 * @returns {Promise<any>}
 */
async function settle (method, send, signal, isAgain = false) {
  const answer = await reached(async () => send(SAFE.includes(method) ? {} : { 'x-csrf-token': await tokenOf() }), signal)
  const { status, content, retryAfter } = answer
  if (status < 400) {
    if (typeof content?.csrfToken === 'string') csrfToken = Promise.resolve(content.csrfToken)
    return content
  }
  const refused = new Refused(typeof content === 'object' && content !== null ? content : { title: `The portal answered ${status}`, status }, retryAfter)
  if (refused.code === STEP_UP_REQUIRED) {
    const { confirmIdentity } = await import('./confirm.js')
    await confirmIdentity()
    return settle(method, send, signal)
  }
  // Another tab signed in or out: the token is that of the session before. For somebody else nothing is done in the name of who asked.
  if (refused.code === CSRF_REFUSED && !isAgain) {
    csrfToken = null
    if (await isStillKnown()) return settle(method, send, signal, true)
    window.dispatchEvent(new Event(OTHER))
  }
  if (SIGNED_OUT.includes(refused.code) && knownId !== null) window.dispatchEvent(new Event(OVER))
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

async function isStillKnown () {
  const { user } = await ask('GET', '/portal.json')
  return (user?.id ?? null) === knownId
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
 */
export async function showPasskey (purpose) {
  const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(await ask('POST', '/passkeys/login/options', purpose))
  const credential = /** @type {PublicKeyCredential} */ (await navigator.credentials.get({ publicKey }))
  return credential.toJSON()
}

/** This browser has passkeys, and JSON for them. */
export const hasPasskeys = typeof window.PublicKeyCredential?.parseRequestOptionsFromJSON === 'function'
