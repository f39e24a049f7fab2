/**
 * HTML that people write: cut down to an allowlist before it is kept, so that what is shown later is harmless.
 *
 * Threat: stored cross-site scripting (CWE-79), forms and frames in other people's pages, links that run scripts or tell the site that opened them.
 * Defence: sanitize-html parses and writes anew; only the elements, attributes and schemes of a list come out, everything else goes or is escaped.
 * What comes out is stable: cleaned again, it does not change.
 * Not covered: where it is put. It is for the inside of an element, never for an attribute, a script or a style.
 */
import sanitizeHtml from 'sanitize-html'

/** What of HTML is kept: the attributes of each element. */
export type HtmlAllowlist = Readonly<Record<string, readonly string[]>>

export interface HtmlOptions {
  /** Composes characters (Unicode NFC), in text and attributes only: done to markup, it would change what is markup (default false). */
  normalize?: boolean
}

/** `post`: what an article needs. `inline`: emphasis and paragraphs, no links. */
export const HTML_ALLOWLISTS = {
  post: { p: [], br: [], strong: [], em: [], ul: [], ol: [], li: [], a: ['href', 'title'] },
  inline: { p: [], br: [], strong: [], em: [] },
} as const satisfies Record<string, HtmlAllowlist>

/** A link says where it leads: one that names no host leads wherever the page that shows it stands. */
const SAFE_LINK = /^(?:https?:\/\/[^/\\\s?#@]+(?:[/?#]|$)|mailto:[^\s?#]+@)[^\p{Cc}\\]*$/iu
/** Elements deeper than this are unwrapped. */
const MAX_NESTING = 32
/** Cleaning what is clean changes nothing: it is cleaned until that holds, and nothing of it is kept where it does not in so many rounds. */
const MAX_ROUNDS = 8
/** Elements whose text is no text that anybody wrote for readers. */
const NON_TEXT = ['script', 'style', 'textarea', 'option', 'noscript', 'title', 'xmp', 'iframe', 'noembed', 'noframes', 'template']
/** Elements that other code would run, load or send: no allowlist brings them back. */
const NEVER = new Set([
  ...NON_TEXT, 'object', 'embed', 'applet', 'base', 'link', 'meta', 'form', 'input', 'button', 'select', 'frame', 'frameset', 'svg', 'math', 'plaintext', 'html', 'head', 'body',
])
const NAME = /^[a-z][a-z0-9]*$/
const ATTRIBUTE = /^(?!on|style$|src|formaction$|xlink)[a-z][a-z-]*$/
const ESCAPES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' }

/** Why a list of elements cannot be allowed; null where it can. */
export function faultOfAllowlist (allowed: HtmlAllowlist): string | null {
  for (const [element, attributes] of Object.entries(allowed)) {
    if (!NAME.test(element) || NEVER.has(element)) return `${element} is no element that could be kept`
    const fault = attributes.find(attribute => !ATTRIBUTE.test(attribute) || (attribute === 'href' && element !== 'a'))
    if (fault !== undefined) return `${element}[${fault}] is no attribute that could be kept`
  }
  return null
}

/** A function that cleans HTML to this list. Cleaning twice changes nothing. */
export function htmlCleaner (allowed: HtmlAllowlist, { normalize = false }: HtmlOptions = {}): (html: string) => string {
  const compose = (text: string) => normalize ? text.normalize('NFC') : text
  const options: sanitizeHtml.IOptions = {
    allowedTags: Object.keys(allowed),
    allowedAttributes: Object.fromEntries(Object.entries(allowed).map(([element, attributes]) => [element, [...attributes]])),
    allowedSchemes: ['http', 'https', 'mailto'],
    allowProtocolRelative: false,
    nonTextTags: NON_TEXT,
    nestingLimit: MAX_NESTING,
    textFilter: compose,
    transformTags: {
      '*': (tagName, attribs) => {
        const kept: Record<string, string> = {}
        for (const [name, value] of Object.entries(attribs)) {
          const text = compose(name === 'href' ? value.trim() : value)
          if (name !== 'href' || (SAFE_LINK.test(text) && URL.canParse(text))) kept[name] = text
        }
        return { tagName, attribs: kept }
      },
    },
  }

  return function clean (html: string): string {
    let cleaned = html
    for (let round = 0; round < MAX_ROUNDS; round++) {
      const next = sanitizeHtml(cleaned, options)
      if (next === cleaned) return cleaned
      cleaned = next
    }
    return ''
  }
}

/**
 * Clean HTML as it is shown: its links tell the pages to which they lead nothing of who opened them, and pass no reputation on. Not for what
 * nobody has cleaned.
 */
export function showHtml (clean: string): string {
  // In what is clean every `<` begins an element, and attributes stand in double quotes. Behind them, so that who looks for a link as it was written finds it.
  return clean.replace(/<a((?: [a-z]+="[^"]*")+)>/g, '<a$1 rel="noopener nofollow">')
}

/** Plain text as HTML, for elements and quoted attributes. */
export function escapeHtml (text: string): string {
  return text.replace(/[&<>"']/g, sign => ESCAPES[sign]!)
}
