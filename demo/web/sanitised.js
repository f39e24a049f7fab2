/**
 * HTML that people wrote, as elements of this page. The portal has cleaned it before it kept it, and writes what it cleaned in one form; that is
 * not believed here: only what has exactly that form, and stands on this list, becomes an element, made anew. All else stays the text that it is.
 *
 * No parser of the browser reads it. However inert what a template or a parser of documents makes of it is, the page's policy reports each handler and style that they meet, and
 * Trusted Types want an exception for them; and what two parsers understand in two ways cannot be brought in where none is.
 */
import { h } from './dom.js'

/** The attributes of each element. @type {Readonly<Record<string, readonly string[]>>} */
const KEPT = { p: [], br: [], strong: [], em: [], ul: [], ol: [], li: [], a: ['href', 'title'] }
const SCHEMES = ['http:', 'https:', 'mailto:']
const TAG = new RegExp(`<(/?)(${Object.keys(KEPT).join('|')})((?: [a-z]+="[^"<>]*")*)(?: /)?>`, 'g')
const ATTRIBUTE = / ([a-z]+)="([^"]*)"/g
/** @type {Readonly<Record<string, string>>} */
const ENTITIES = { amp: '&', lt: '<', gt: '>', quot: '"', '#39': "'" }
/** The portal keeps half as many. */
const MAX_DEPTH = 64

/**
 * @param {string} html
 * @returns {DocumentFragment} text, and elements of the list
 */
export function sanitised (html) {
  const whole = document.createDocumentFragment()
  /** Those that are open, the innermost first. @type {(DocumentFragment | HTMLElement)[]} */
  const open = [whole]
  let end = 0
  for (const { 0: tag, 1: slash, 2: name = '', 3: attributes = '', index } of html.matchAll(TAG)) {
    say(html.slice(end, index))
    end = index + tag.length
    if (slash === '/') close(name)
    else begin(name, attributes)
  }
  say(html.slice(end))
  return whole

  /** @param {string} text */
  function say (text) {
    if (text !== '') open[0]?.append(textOf(text))
  }

  /** @param {string} name @param {string} attributes */
  function begin (name, attributes) {
    if (open.length > MAX_DEPTH) return
    const element = h(/** @type {'a'} */ (name), keptOf(name, attributes))
    open[0]?.append(element)
    if (name !== 'br') open.unshift(element)
  }

  /** What is open in it ends with it; one that nothing has begun ends nothing. @param {string} name */
  function close (name) {
    open.splice(0, open.findIndex(element => element instanceof HTMLElement && element.localName === name) + 1)
  }
}

/** @param {string} name @param {string} text */
function keptOf (name, text) {
  const given = [...text.matchAll(ATTRIBUTE)].map(([, attribute = '', value = '']) => [attribute, textOf(value)])
  const kept = Object.fromEntries(given.filter(([attribute = '']) => KEPT[name]?.includes(attribute)))
  return name === 'a' ? { ...kept, href: addressOf(kept.href ?? ''), rel: 'noopener nofollow' } : kept
}

/** Where a link leads, as the browser reads it: to a host, by a scheme of the list; else null. @param {string} text */
function addressOf (text) {
  if (!URL.canParse(text)) return null
  const { protocol, username, password, href } = new URL(text)
  return SCHEMES.includes(protocol) && username + password === '' ? href : null
}

/** @param {string} text */
function textOf (text) {
  return text.replace(/&(amp|lt|gt|quot|#39);/g, (entity, name) => ENTITIES[name] ?? entity)
}
