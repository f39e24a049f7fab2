/** The token of a request, taken apart. */
import type { JsonWebKey } from 'node:crypto'
import type { FastifyRequest } from 'fastify'

export interface BearerToken {
  header: { alg?: string, kid?: string, jku?: string, jwk?: JsonWebKey }
  claims: { sub?: string, use?: string, role?: string }
  /** What is signed. */
  text: string
  signature: Buffer
}

export function bearerIn ({ headers: { authorization = '' } }: FastifyRequest): BearerToken | null {
  const [header = '', claims = '', signature = ''] = authorization.replace(/^bearer /i, '').split('.')
  try {
    return { header: read(header), claims: read(claims), text: `${header}.${claims}`, signature: Buffer.from(signature, 'base64url') }
  } catch {
    return null
  }
}

function read (part: string): object {
  return JSON.parse(Buffer.from(part, 'base64url').toString())
}
