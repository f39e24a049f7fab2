/**
 * What a client sends is merged into an object, `__proto__` among its fields (CWE-1321; API8), and as deep as it goes (CWE-674; API4). `validation` refuses such names and
 * such depth before anything reads them.
 */
import type { Twin } from '../app.js'

type Json = Record<string, unknown>

/** By user and purpose. */
const consents = new Map<string, Json>()

export default function mergedObjects ({ app, userOf }: Twin): void {
  app.removeContentTypeParser('application/json')
  app.addContentTypeParser('application/json', { parseAs: 'string' }, async (_request: unknown, body: string) => body === '' ? undefined : JSON.parse(body))

  app.put<{ Params: { purpose: string }, Body: Json }>('/users/me/consents/:purpose', async request => {
    const { id } = await userOf(request)
    const key = `${id} ${request.params.purpose}`
    consents.set(key, merge(consents.get(key) ?? {}, request.body))
    return { purpose: request.params.purpose, given: consents.get(key)!.given }
  })
}

function merge (target: Json, source: Json): Json {
  for (const key of Object.keys(source)) {
    if (typeof source[key] === 'object' && source[key] !== null) target[key] = merge((target[key] ?? {}) as Json, source[key] as Json)
    else target[key] = source[key]
  }
  return target
}
