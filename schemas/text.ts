/**
 * What people write. The patterns are anchored and free of nested repetition (CWE-1333). Keywords that change what they stand for (`trim`, `normalize`, `html`, `distinct`) are run by the
 * suite's validation, and known to no other validator.
 */
import { Type, type StringOptions, type TString } from '@sinclair/typebox'

/** No control characters but tab and line breaks. */
export const PLAIN_TEXT = '^[^\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f]*$'

/** Text of at most so many lines, composed (Unicode NFC) and trimmed, without control characters but tab and line breaks. Its lengths are those of what is kept. */
export function plainText (options: StringOptions & { maxLength: number, maxLines?: number }): TString {
  return Type.String({ normalize: 'NFC', trim: true, pattern: PLAIN_TEXT, ...options })
}

/** What no reader sees, beside white space: control and format characters, fillers. */
const UNSEEN = '\\x00-\\x1f\\x7f-\\x9f\\u00ad\\u034f\\u061c\\u115f\\u1160\\u17b4\\u17b5\\u180b-\\u180f\\u200b-\\u200f\\u202a-\\u202e\\u2060-\\u206f\\u2800\\u3164\\ufe00-\\ufe0f\\ufeff\\uffa0\\ufff0-\\ufffb'

/** One line in which something can be seen. */
export const Title = Type.String({
  normalize: 'NFC', trim: true, minLength: 1, maxLength: 200, pattern: `^(?=[^]*[^\\s${UNSEEN}])[^\\x00-\\x1f\\x7f]*$`, examples: ['Hello', ' ¡Hola! '],
})

/** Plain text of several lines; HTML in it is text, and is escaped when it is shown. */
export const Comment = plainText({ minLength: 1, maxLength: 2000, maxLines: 100, examples: ['Nice', 'First line\n\nSecond <b>line</b>'] })

/** The body of a post: HTML, of which `p br strong em ul ol li a[href,title]` are kept. */
export const Content = plainText({ minLength: 10, maxLength: 10_000, html: 'post', examples: ['<p>Hello there</p>', 'ten letter'] })

/** A name for URLs. */
export const Slug = Type.String({ minLength: 1, maxLength: 100, pattern: '^[a-z0-9]+(?:-[a-z0-9]+)*$', examples: ['hello-world', '2024'] })

export const Tag = Type.String({ minLength: 1, maxLength: 50, pattern: '^[A-Za-z0-9-]+$', examples: ['news', 'Node-20'] })

/** At most ten; what stands in it twice is kept once. */
export const TagList = Type.Array(Tag, { maxItems: 10, distinct: true, examples: [[], ['news', 'news']] })
