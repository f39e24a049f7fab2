/** Whether a URI names the target of a request (RFC 9449, 4.3; RFC 3986, 6.2.2 and 6.2.3). */

/** Visible ASCII. A backslash, blank or tab is no part of a URI, and the parser of URLs would repair it. */
const URI = /^https?:\/\/[!-[\]-~]+$/i
/** Scheme and authority of a target in absolute form (RFC 9112, 3.2.2). */
const AUTHORITY = /^[a-z][a-z0-9+.-]*:\/\/[^/?#]*/i
const ENCODED = /%[0-9a-f]{2}/gi
const UNRESERVED = /[\w.~-]/

/** The canonical form of a URI's scheme and authority; null where it has none. */
export function originOf (uri: string): string | null {
  return URI.test(uri) && URL.canParse(uri) ? new URL(uri).origin : null
}

/**
 * Query and fragment are ignored on both sides. Dot segments are resolved in the URI alone: clients resolve them before
 * they send, and a target that still has some is another resource to the router.
 *
 * @param origin canonical
 * @param target of the request line
 */
export function namesTarget (uri: string, origin: string, target: string): boolean {
  const path = target.replace(AUTHORITY, '').split(/[?#]/, 1)[0] || '/'
  if (uri === origin + path) return true
  if (!URI.test(uri) || !URL.canParse(uri)) return false
  const named = new URL(uri)
  return named.origin === origin && named.username === '' && named.password === '' && spelled(named.pathname) === spelled(path)
}

/** One spelling of percent-encoding: none for what needs none, upper case for the rest. */
function spelled (path: string): string {
  return path.replace(ENCODED, code => {
    const character = String.fromCharCode(Number.parseInt(code.slice(1), 16))
    return UNRESERVED.test(character) ? character : code.toUpperCase()
  })
}
