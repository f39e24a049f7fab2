/** What is asked of the service, as text on the wire, and what the answer must be: checked on every contender before it is measured. */
import { ANSWERS, HOURS_PATH, NOTES_PATH, ORDER_PATH, ORIGIN, written, type Settings } from './question.js'
import type { Server } from './rounds.js'

export interface Asking {
  settings: Settings
  status: number
  /** Of the answer, where it is not a refusal. */
  body?: string
  method: 'GET' | 'POST'
  path: string
  /** What is sent with each request, in turn; null: no token. */
  tokens: (server: Server) => (string | null)[]
}

const ORDER = { method: 'GET', path: ORDER_PATH.replace(':orderId', 'ord_7f3a') } as const
const first = ({ tokens }: Server) => [tokens[0]!]

const ASKED = {
  order: { ...ORDER, settings: {}, status: 200, body: ANSWERS.order, tokens: first },
  'orders in turn': { ...ORDER, settings: { people: 5000 }, status: 200, body: ANSWERS.order, tokens: ({ tokens }) => tokens },
  public: { method: 'GET', path: HOURS_PATH, settings: {}, status: 200, body: ANSWERS.hours, tokens: () => [null] },
  note: { method: 'POST', path: NOTES_PATH, settings: {}, status: 200, body: ANSWERS.note, tokens: first },
  'no token': { ...ORDER, settings: {}, status: 401, tokens: () => [null] },
  powerless: { ...ORDER, settings: {}, status: 403, tokens: ({ powerless }) => [powerless] },
  'over the limit': { ...ORDER, settings: { max: 1 }, status: 429, tokens: first },
} satisfies Record<string, Asking>
export type Kind = keyof typeof ASKED

export function asked (kind: Kind): Asking {
  return ASKED[kind]
}

/** What an answer must carry, by a pattern of its name. */
const HEADERS = [/^content-security-policy$/, /^x-content-type-options$/, /^access-control-allow-origin$/, /ratelimit/]

const BODY = JSON.stringify(written)

export function questions (asking: Asking, server: Server): string[] {
  return asking.tokens(server).map(token => {
    const head = Object.entries({ host: `127.0.0.1:${server.port}`, ...headers(asking, token) }).map(([name, value]) => `${name}: ${value}\r\n`).join('')
    return `${asking.method} ${asking.path} HTTP/1.1\r\n${head}\r\n${asking.method === 'POST' ? BODY : ''}`
  })
}

function headers ({ method }: Asking, token: string | null): Record<string, string> {
  return {
    ...token !== null && { authorization: `Bearer ${token}` },
    origin: ORIGIN,
    accept: 'application/json',
    ...method === 'POST' && { 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(BODY)) },
  }
}

/**
 * Asks it once (what is over the limit: twice), refuses another status or body than everybody's, and answers the patterns of
 * the headers that are missing.
 */
export async function check (name: string, asking: Asking, server: Server): Promise<string[]> {
  const ask = () => fetch(`http://127.0.0.1:${server.port}${asking.path}`, {
    method: asking.method,
    headers: headers(asking, asking.tokens(server).at(-1)!),
    ...asking.method === 'POST' && { body: BODY },
  })
  if (asking.status === 429) await (await ask()).text()
  const answer = await ask()
  const body = await answer.text()
  if (answer.status !== asking.status || (asking.body !== undefined && body !== asking.body)) throw new Error(`${name} answered ${answer.status} ${body}`)
  if (!answer.headers.has('content-length')) throw new Error(`${name} does not tell the length of its answer`)
  return HEADERS.filter(header => ![...answer.headers.keys()].some(name => header.test(name))).map(({ source }) => source.replaceAll(/[\^$]/g, ''))
}
