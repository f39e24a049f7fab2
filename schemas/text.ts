/** What people write. The patterns are anchored and free of nested repetition (CWE-1333). */
import { Type } from '@sinclair/typebox'

/** Plain text of several lines: no control characters but tab and line breaks. */
export const PLAIN_TEXT = '^[^\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f]*$'

/** One line that is not blank. Trim it before it is kept. */
export const Title = Type.String({
  minLength: 1, maxLength: 200, pattern: '^[^\\S\\r\\n]*[^\\s\\x00-\\x1f\\x7f][^\\x00-\\x1f\\x7f]*$', examples: ['Hello', ' ¡Hola! '],
})

/** The body of a post: text or HTML; what of the HTML is kept is for the service. */
export const Content = Type.String({ minLength: 10, maxLength: 10_000, pattern: PLAIN_TEXT, examples: ['<p>Hello there</p>', 'ten letter'] })

/** A name for URLs. */
export const Slug = Type.String({ minLength: 1, maxLength: 100, pattern: '^[a-z0-9]+(?:-[a-z0-9]+)*$', examples: ['hello-world', '2024'] })

export const Tag = Type.String({ minLength: 1, maxLength: 50, pattern: '^[A-Za-z0-9-]+$', examples: ['news', 'Node-20'] })

/** At most ten; remove duplicates before they are kept. */
export const TagList = Type.Array(Tag, { maxItems: 10, examples: [[], ['news', 'news']] })
