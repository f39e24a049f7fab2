/**
 * The one service that every contender is: an order is read by somebody who may (of its record two fields must not leave), a
 * note is written, the shop's opening hours are for everybody. What is the same for all is written here once: routes, schemas, handlers,
 * permissions, limits.
 */
import type { FastifyInstance } from 'fastify'

/** What a contender is told. */
export interface Settings {
  /** Number of different people that it makes tokens for. Default 1. */
  people?: number
  /** Requests in each of its windows: by default more than anybody makes. */
  max?: number
}
export interface Serving {
  port: number
  /** The process that answers, where it is a child of the one that was started. */
  pid?: number
  /** Of people who may do everything here. */
  tokens: string[]
  /** Of somebody who may do nothing. */
  powerless: string
}
/** Makes the application, lets it listen on any port of 127.0.0.1, and answers when it does. */
export type Build = (settings: Required<Settings>) => Promise<Serving>

export const ORIGIN = 'https://app.example.com'
export const ROLE = 'user'
export const READ = 'orders:read'
export const WRITE = 'notes:write'
export const ORDER_PATH = '/orders/:orderId'
export const NOTES_PATH = '/notes'
export const HOURS_PATH = '/hours'
/** Too many requests for anything here to be refused by a limit. */
const MOST = 999_999_999
/** Seconds of the two windows: one of the address, one of the person. */
export const WINDOWS = [60, 3600] as const

export function complete ({ people = 1, max = MOST }: Settings): Required<Settings> {
  return { people, max }
}

const text = { type: 'string' }

export const params = {
  type: 'object',
  properties: { orderId: { type: 'string', maxLength: 32 } },
  required: ['orderId'],
  additionalProperties: false,
}
export const order = {
  type: 'object',
  properties: { id: text, status: text, total: { type: 'integer' }, currency: text, createdAt: text, items: { type: 'integer' } },
  required: ['id', 'status', 'total', 'currency', 'createdAt', 'items'],
  additionalProperties: false,
}
export const hours = {
  type: 'object',
  properties: { days: text, opens: text, closes: text },
  required: ['days', 'opens', 'closes'],
  additionalProperties: false,
}
export const draft = {
  type: 'object',
  properties: {
    title: { type: 'string', minLength: 1, maxLength: 200 },
    content: { type: 'string', minLength: 10, maxLength: 10_000 },
    tags: { type: 'array', items: { type: 'string', maxLength: 50 }, maxItems: 10 },
    priority: { type: 'integer', minimum: 0, maximum: 9 },
  },
  required: ['title', 'content', 'tags', 'priority'],
  additionalProperties: false,
}
export const note = {
  type: 'object',
  properties: { id: text, ...draft.properties, createdAt: text },
  required: ['id', 'title', 'content', 'tags', 'priority', 'createdAt'],
  additionalProperties: false,
}

/** The record as the handler finds it. `cardFingerprint` and `riskScore` are not in the schema and must not leave. */
const storedOrder = {
  id: 'ord_7f3a',
  status: 'paid',
  total: 4990,
  currency: 'EUR',
  createdAt: '2026-01-31T10:00:00.000Z',
  items: 3,
  cardFingerprint: 'fp_9c1e77aa',
  riskScore: 0.07,
}
/** What a note's author sends: one kilobyte. */
export const written = { title: 'Delivery', content: 'Leave it with the neighbours. '.repeat(30).trim(), tags: ['delivery', 'address', 'neighbour'], priority: 3 }
const openingHours = { days: 'Mo-Fr', opens: '08:00', closes: '18:00' }

export interface Draft { title: string, content: string, tags: string[], priority: number }

export async function readOrder () {
  return storedOrder
}

/** The note as it is stored: two fields of it must not leave. */
export async function writeNote ({ body }: { body: unknown }) {
  return { id: 'note_1c44', ...body as Draft, createdAt: '2026-01-31T10:00:00.000Z', authorAddress: '192.0.2.7', spamScore: 0.02 }
}

export async function readHours () {
  return openingHours
}

/** The answers as every contender gives them. */
export const ANSWERS = {
  order: visible(storedOrder, order),
  note: visible(await writeNote({ body: written }), note),
  hours: visible(openingHours, hours),
}

function visible (record: object, schema: { properties: object }): string {
  return JSON.stringify(record, Object.keys(schema.properties))
}

/** Lets it listen, and answers on which port. */
export async function listening (app: FastifyInstance): Promise<number> {
  await app.listen({ host: '127.0.0.1', port: 0 })
  return (app.server.address() as { port: number }).port
}
