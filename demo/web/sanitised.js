/**
 * HTML that people wrote, as elements of this page. The portal has cleaned it before it kept it; that is not believed here: it is parsed where
 * nothing runs and nothing loads, and of what was parsed only the elements, attributes and schemes of this list are made anew. No markup is
 * written back, so that none can be read in another way than it was. This is the one place of the pages in which markup is read at all.
 */
import { h } from './dom.js'

/** The attributes of each element. @type {Readonly<Record<string, readonly string[]>>} */
const KEPT = { p: [], br: [], strong: [], em: [], ul: [], ol: [], li: [], a: ['href', 'title'] }
const SCHEMES = ['http:', 'https:', 'mailto:']

/** What browsers with Trusted Types want to hear from whoever reads markup. @typedef {{ createHTML: (html: string) => string }} Policy */
/** @type {Policy} */
const policy = /** @type {{ trustedTypes?: { createPolicy: (name: string, policy: Policy) => Policy } }} */ (window).trustedTypes
  ?.createPolicy('sanitised', { createHTML: html => html }) ?? { createHTML: html => html }

/**
 * What is left of this HTML: text, and elements of the list.
 *
 * @param {string} html
 * @returns {(Node | string)[]}
 */
export function sanitised (html) {
  // Not `DOMParser`: the properties of a document are those of its forms and images, too, where they have such names.
  const template = document.createElement('template')
  template.innerHTML = policy.createHTML(html)
  return rebuilt(template.content)
}

/** What is not on the list is left out, with all that is in it. @param {Node} node @returns {(Node | string)[]} */
function rebuilt (node) {
  return [...node.childNodes].flatMap(/** @returns {(Node | string)[]} */ child => {
    if (child.nodeType === Node.TEXT_NODE) return [child.nodeValue ?? '']
    // By its interface: an `a` of SVG is another element.
    if (!(child instanceof HTMLElement) || !Object.hasOwn(KEPT, child.localName)) return []
    return [h(/** @type {'p' | 'a'} */ (child.localName), attributesOf(child), rebuilt(child))]
  })
}

/** @param {HTMLElement} element */
function attributesOf (element) {
  const kept = Object.fromEntries((KEPT[element.localName] ?? []).map(name => [name, element.getAttribute(name)]))
  if (element.localName !== 'a') return kept
  return { ...kept, href: addressOf(kept.href ?? ''), rel: 'noopener nofollow' }
}

/** Where a link leads, as the browser reads it: to a host, by a scheme of the list; else null. @param {string} text */
function addressOf (text) {
  if (!URL.canParse(text)) return null
  const { protocol, username, password, href } = new URL(text)
  return SCHEMES.includes(protocol) && username + password === '' ? href : null
}
