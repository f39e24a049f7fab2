/** One side of the range, as an attacker sees it: HTTP as it is written, from an address of one's own, all of it recorded. */
import { randomBytes } from 'node:crypto'
import { createServer, request, type IncomingMessage, type OutgoingHttpHeaders, type RequestListener } from 'node:http'
import { connect, type AddressInfo } from 'node:net'
import type { Exchange } from './attack.js'

/** Milliseconds. */
const DEADLINE = 15_000
/** Milliseconds without a byte on a socket: before the first, and after one. */
const SILENCE = 3000
const QUIET = 300
/** Bytes of an answer that are read. */
const ANSWER_LIMIT = 8 * 1024 * 1024
/** Attacks ask much: the first and the last of what they did tell what it was. */
const KEPT_AT_EACH_END = 20
/** See demo/vulnerable/guard.ts. */
const KEY_HEADER = 'x-range-key'

export interface Call {
  headers?: Record<string, string>
  /** Sent as JSON. */
  json?: unknown
  /** Sent as application/x-www-form-urlencoded. */
  form?: Record<string, string>
  /** Sent as multipart/form-data. */
  file?: { field?: string, name: string, type: string, content: Buffer, fields?: Record<string, string> }
  /** Sent as it is. */
  raw?: string | Buffer
  token?: string
  key?: string
  /** The request comes from another address: a machine of one's own for each number from 1 to 200. */
  machine?: number
}
export type Ask = (method: string, path: string, call?: Call) => Promise<Exchange>

/** Somebody with an account. */
export interface Person {
  id: string
  username: string
  password: string
  token: string
  refreshToken: string
  /** Asks with their access token. */
  ask: Ask
}

/** Keeps cookies, sends the CSRF token that it was shown, and says where its requests come from, like a browser at a page of the service. */
export interface Tab {
  jar: Map<string, string>
  /** Signs in, and takes the CSRF token where there is one. */
  signIn: (username: string, password: string) => Promise<Exchange>
  ask: Ask
}

/** A server of the attacker's on this machine. */
export interface Lair { url: string, hits: { method: string, url: string, headers: IncomingMessage['headers'] }[] }

export interface Target {
  side: 'twin' | 'portal'
  /** `http://localhost:PORT`. */
  origin: string
  /** Of the seeded accounts (admin, mona, max, alice, bob, gus, nora, dora). */
  password: string
  /** Says what the attacker is about from here on. */
  step: (text: string) => void
  /** What the attack rests on has to be so: nothing is told of an attack that was not carried out. @throws Error where it is answered otherwise, so that the verdict is `unclear` */
  must: (asked: Exchange | Promise<Exchange>, status: number) => Promise<Exchange>
  /** Asks without any credential of its own. */
  ask: Ask
  /** Signs in. @throws Error where that is refused */
  signIn: (username: string, password?: string) => Promise<Person>
  /** Registers somebody new and signs them in. */
  person: () => Promise<Person>
  tab: () => Tab
  /** Writes bytes to a socket. The exchange has the first status that came back, and as text all that came until the socket was closed or nothing came any more. */
  write: (text: string) => Promise<Exchange>
  /** Opens a server of the attacker's, for as long as the attack lasts. */
  lair: (listener?: RequestListener) => Promise<Lair>
  /** What a stolen backup holds of what is looked for: every match in the log and in each file of the data directory, with its groups. Bytes are letters (latin1). */
  stolen: (pattern: RegExp) => Promise<string[][]>
}

export interface Side {
  side: Target['side']
  port: number
  password: string
  /** Without which the twin answers nobody: sent with every request, and shown in none. */
  key?: string
  stolen: Target['stolen']
}

/** A target, and what was asked of it so far. `machines` gives an address of the attacker's for a number. */
export function targetOf ({ side, port, password, key, stolen }: Side, machines: (n: number) => string): { target: Target, exchanges: Exchange[], left: () => number, close: () => void } {
  const exchanges: Exchange[] = []
  const ends: (() => void)[] = []
  const origin = `http://localhost:${port}`
  let step = ''
  let dropped = 0

  const ask: Ask = async (method, path, call = {}) => {
    const { body, type } = bodyOf(call)
    const headers: Record<string, string> = {
      host: `localhost:${port}`,
      ...type !== undefined && { 'content-type': type },
      ...body !== undefined && { 'content-length': String(body.length) },
      ...call.token !== undefined && { authorization: `Bearer ${call.token}` },
      ...call.key !== undefined && { 'x-api-key': call.key },
      ...call.headers,
    }
    const since = performance.now()
    const answer = await send(port, machines(call.machine ?? 0), method, path, { ...headers, ...key !== undefined && { [KEY_HEADER]: key } }, body)
    return recorded({ step, method, path, requestHeaders: headers, requestBody: body === undefined ? '' : body.toString('latin1'), ...answer, ms: performance.now() - since })
  }

  function recorded (exchange: Exchange): Exchange {
    exchanges.push(exchange)
    if (exchanges.length > 2 * KEPT_AT_EACH_END) {
      exchanges.splice(KEPT_AT_EACH_END, 1)
      dropped++
    }
    return exchange
  }

  const signIn: Target['signIn'] = async (username, secret = password) => {
    const { body } = await must(ask('POST', '/auth/login', { json: { username, password: secret } }), 200)
    const token = body.access_token as string
    const mine: Ask = (method, path, call) => ask(method, path, { token, ...call })
    const { body: profile } = await must(mine('GET', '/users/me'), 200)
    return { id: String(profile.id), username, password: secret, token, refreshToken: body.refresh_token, ask: mine }
  }

  const target: Target = {
    side,
    origin,
    password,
    step: text => { step = text },
    must,
    ask,
    signIn,
    async person () {
      const username = `p${randomBytes(6).toString('hex')}`
      const secret = `Riverbed-${randomBytes(6).toString('hex')}-7`
      await must(ask('POST', '/auth/register', { json: { username, email: `${username}@people.example`, password: secret } }), 201)
      return signIn(username, secret)
    },
    tab: () => tabOf(origin, ask),
    async write (written) {
      const since = performance.now()
      // The first request of a connection opens it: what is hidden in its body is the attacker's.
      const sent = key === undefined ? written : written.replace('\r\n', `\r\n${KEY_HEADER}: ${key}\r\n`)
      const text = await write(port, machines(0), sent)
      const [, method = '', path = ''] = /^(\S+) (\S+)/.exec(written) ?? []
      const [, status = 0] = /^HTTP\/1\.1 (\d{3})/.exec(text) ?? []
      return recorded({ step, method, path, requestHeaders: {}, requestBody: written, status: Number(status), headers: {}, text, body: undefined, ms: performance.now() - since })
    },
    async lair (listener = (_request, response) => { response.end('the attacker\'s') }) {
      const hits: Lair['hits'] = []
      const server = createServer((request, response) => {
        hits.push({ method: request.method!, url: request.url!, headers: request.headers })
        listener(request, response)
      })
      await new Promise<void>(resolve => { server.listen(0, '127.0.0.1', resolve) })
      ends.push(() => {
        server.closeAllConnections()
        server.close()
      })
      return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, hits }
    },
    stolen,
  }
  return { target, exchanges, left: () => dropped, close: () => { for (const end of ends) end() } }
}

async function must (asked: Exchange | Promise<Exchange>, wanted: number): Promise<Exchange> {
  const exchange = await asked
  const { method, path, status, text } = exchange
  if (status !== wanted) throw new Error(`${method} ${path} was answered ${status}, not ${wanted}: ${text.slice(0, 200)}`)
  return exchange
}

function tabOf (origin: string, ask: Ask): Tab {
  const jar = new Map<string, string>()
  let csrf: string | undefined
  const tab: Tab = {
    jar,
    async ask (method, path, call = {}) {
      const cookie = [...jar].map(([name, value]) => `${name}=${value}`).join('; ')
      const isUnsafe = method !== 'GET' && method !== 'HEAD'
      const exchange = await ask(method, path, {
        ...call,
        headers: { 'sec-fetch-site': 'same-origin', ...isUnsafe && { origin }, ...cookie !== '' && { cookie }, ...isUnsafe && csrf !== undefined && { 'x-csrf-token': csrf }, ...call.headers },
      })
      for (const line of [exchange.headers['set-cookie'] ?? []].flat()) {
        const [, name = '', value = ''] = /^([^=]+)=([^;]*)/.exec(line) ?? []
        if (/max-age=0/i.test(line)) jar.delete(name)
        else jar.set(name, value)
      }
      if (typeof exchange.body?.csrfToken === 'string') csrf = exchange.body.csrfToken
      return exchange
    },
    async signIn (username, password) {
      const answer = await tab.ask('POST', '/session/login', { json: { username, password } })
      if (csrf === undefined) await tab.ask('GET', '/csrf-token')
      return answer
    },
  }
  return tab
}

function bodyOf ({ json, form, file, raw }: Call): { body?: Buffer, type?: string } {
  if (raw !== undefined) return { body: Buffer.from(raw as string) }
  if (json !== undefined) return { body: Buffer.from(JSON.stringify(json)), type: 'application/json' }
  if (form !== undefined) return { body: Buffer.from(new URLSearchParams(form).toString()), type: 'application/x-www-form-urlencoded' }
  if (file === undefined) return {}
  const boundary = randomBytes(12).toString('hex')
  const fields = Object.entries(file.fields ?? {}).map(([name, value]) => `--${boundary}\r\ncontent-disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`).join('')
  const head = `${fields}--${boundary}\r\ncontent-disposition: form-data; name="${file.field ?? 'file'}"; filename="${file.name}"\r\ncontent-type: ${file.type}\r\n\r\n`
  return { body: Buffer.concat([Buffer.from(head), file.content, Buffer.from(`\r\n--${boundary}--\r\n`)]), type: `multipart/form-data; boundary=${boundary}` }
}

function send (port: number, localAddress: string, method: string, path: string, headers: OutgoingHttpHeaders, body?: Buffer): Promise<Pick<Exchange, 'status' | 'headers' | 'text' | 'body'>> {
  return new Promise((resolve, reject) => {
    const asked = request({ host: '127.0.0.1', port, localAddress, method, path, headers, agent: false, setHost: false, signal: AbortSignal.timeout(DEADLINE) }, answer => {
      const chunks: Buffer[] = []
      let size = 0
      let isWhole = false
      const finish = () => {
        const text = Buffer.concat(chunks).toString()
        resolve({ status: answer.statusCode!, headers: answer.headers, text, body: /json/.test(answer.headers['content-type'] ?? '') ? parsed(text) : undefined })
      }
      answer.on('data', (chunk: Buffer) => {
        size += chunk.length
        if (size <= ANSWER_LIMIT) chunks.push(chunk)
        else answer.destroy()
      })
      answer.on('end', () => { isWhole = true }).on('close', finish).on('error', error => { if (!isWhole && size === 0) reject(error) })
    })
    asked.on('error', reject)
    asked.end(body)
  })
}

function parsed (text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** Until it is closed, or nothing came for a while. */
function write (port: number, localAddress: string, text: string): Promise<string> {
  return new Promise(resolve => {
    const socket = connect({ host: '127.0.0.1', port, localAddress })
    let answered = ''
    const end = () => { socket.destroy() }
    let quiet = setTimeout(end, SILENCE)
    socket.setEncoding('latin1').on('data', (chunk: string) => {
      answered += chunk
      clearTimeout(quiet)
      quiet = setTimeout(end, QUIET)
    })
    socket.on('error', () => {}).on('close', () => {
      clearTimeout(quiet)
      resolve(answered)
    })
    socket.write(text, 'latin1')
  })
}
