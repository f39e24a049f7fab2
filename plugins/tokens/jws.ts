/** A signed token as text (RFC 7515, 7.1), taken apart and not believed. */
import { isUtf8 } from 'node:buffer'

export interface Jws {
  header: Record<string, unknown>
  claims: Record<string, unknown>
  /** What was signed. */
  input: string
  signature: Buffer
}

const FORM = /^([\w-]+)\.([\w-]+)\.([\w-]+)$/

/** Three parts of canonical base64url, the first two of them JSON objects; null for every other text. */
export function parseJws (text: string): Jws | null {
  const parts = FORM.exec(text)
  if (parts === null) return null
  const [, head, body, tail] = parts as unknown as [string, string, string, string]
  const signature = bytesOf(tail)
  const header = objectOf(head)
  const claims = header === null ? null : objectOf(body)
  return signature === null || header === null || claims === null ? null : { header, claims, input: `${head}.${body}`, signature }
}

/** Base64url has several texts for the same bytes: the one that it is meant to be; null for every other. */
export function bytesOf (encoded: unknown): Buffer | null {
  if (typeof encoded !== 'string') return null
  const bytes = Buffer.from(encoded, 'base64url')
  return bytes.toString('base64url') === encoded ? bytes : null
}

function objectOf (encoded: string): Record<string, unknown> | null {
  const bytes = bytesOf(encoded)
  if (bytes === null || !isUtf8(bytes)) return null
  try {
    const value: unknown = JSON.parse(bytes.toString())
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? value as Record<string, unknown> : null
  } catch {
    return null
  }
}
