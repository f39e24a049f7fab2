/**
 * The one question that every contender answers: an authenticated GET of a small object, of which two fields must
 * not leave. What is the same for all is written here once: route, schemas, handler, permissions, limits.
 */
import type { FastifyInstance } from 'fastify'

/** What a contender is to the server process: an application, and tokens of so many different people. */
export interface Contender {
  app: FastifyInstance
  tokens: (people: number) => Promise<string[]>
}
export type Build = () => Promise<Contender>

export const ORIGIN = 'https://app.example.com'
export const URL_PATH = '/orders/:orderId'
export const PATH = '/orders/ord_7f3a'
export const PERMISSION = 'orders:read'
export const ROLE = 'user'
/** Two windows, too wide for anything here to be refused. */
export const WINDOWS = [{ max: 999_999_999, seconds: 60 }, { max: 999_999_999, seconds: 3600 }] as const

export const params = {
  type: 'object',
  properties: { orderId: { type: 'string', maxLength: 32 } },
  required: ['orderId'],
  additionalProperties: false,
}
const text = { type: 'string' }
export const answer = {
  type: 'object',
  properties: { id: text, status: text, total: { type: 'integer' }, currency: text, createdAt: text, items: { type: 'integer' } },
  required: ['id', 'status', 'total', 'currency', 'createdAt', 'items'],
  additionalProperties: false,
}

/** The record as the handler finds it. `cardFingerprint` and `riskScore` are not in the schema and must not leave. */
const record = {
  id: 'ord_7f3a',
  status: 'paid',
  total: 4990,
  currency: 'EUR',
  createdAt: '2026-01-31T10:00:00.000Z',
  items: 3,
  cardFingerprint: 'fp_9c1e77aa',
  riskScore: 0.07,
}
export const BODY = JSON.stringify(record, Object.keys(answer.properties))

export async function readOrder () {
  return record
}
