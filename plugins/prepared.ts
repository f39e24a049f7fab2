/**
 * Prepared headers: what is the same on many answers is checked and joined once, at boot, and goes out as one text.
 *
 * Node checks, stores and joins every header of every answer. For the fourteen of a policy and the four of CORS that
 * was a third of what a small answer costs. Whoever asks for a prepared header, sets or removes it, or writes one of its
 * name, on the reply or on the raw response, meets it as an ordinary one, and wins. What is written past Fastify has them too.
 * Where the response is not ours (`app.inject`, HTTP/2, a server that was not made with `server()`), the headers are set
 * one by one.
 *
 * A head and the text that is its whole body leave in one write, as Latin-1 where both are ASCII: Node would make UTF-8 of
 * them letter by letter, and up to Node 22 write a second time for the end.
 */
import { IncomingMessage, ServerResponse, validateHeaderName, validateHeaderValue, type OutgoingHttpHeader, type OutgoingHttpHeaders } from 'node:http'
import type { FastifyReply } from 'fastify'

type StoreHeader = (this: ServerResponse, statusLine: string, headers: unknown) => void
type Send = (this: ServerResponse, data: unknown, encoding: unknown, callback: unknown, length: unknown) => boolean
/** What Node keeps of an answer on the way out. */
interface Outgoing { _header: string | null, _headerSent: boolean }
/** Whether the head of a reply may be written now. */
type Guard = (reply: FastifyReply) => boolean

/** Node reads these while it writes the head, and acts on them. */
const HEEDED = new Set(['connection', 'content-length', 'transfer-encoding', 'date', 'expect', 'trailer', 'upgrade', 'keep-alive', 'set-cookie'])
/**
 * Where Node writes the head, after the status line, and where it hands on each part of an answer, the head before the first. They have had this form
 * since Node 0.8, and are not in the documentation.
 */
const { _storeHeader: storeHeader, _send: send } = ServerResponse.prototype as unknown as { _storeHeader?: StoreHeader, _send?: Send }
/** Where Fastify keeps the headers of a reply until they are written. */
const OWN_HEADERS = 'fastify.reply.headers'

/** Headers that can be given to a response at once; names are in lower case. */
export interface Prepared {
  readonly set: Readonly<Record<string, string>>
  has: (name: string) => boolean
  /** As they stand on the wire. */
  readonly text: string
}

/** Headers that many answers share. */
export class PreparedHeaders implements Prepared {
  readonly set: Readonly<Record<string, string>>
  readonly names: readonly string[]
  readonly text: string
  readonly #with = new WeakMap<PreparedHeaders, PreparedHeaders>()

  /** @throws TypeError for a name or value that no header can have, or that Node has to see by itself */
  constructor (set: Readonly<Record<string, string>>) {
    this.set = Object.freeze(Object.assign(Object.create(null), set)) as Record<string, string>
    this.names = Object.keys(set)
    for (const name of this.names) check(name, set[name]!)
    this.text = textOf(set)
  }

  has (name: string): boolean { return name in this.set }

  /** Both together; of two with the same name the other's counts. */
  with (other: PreparedHeaders): PreparedHeaders {
    let both = this.#with.get(other)
    if (both === undefined) {
      both = new PreparedHeaders({ ...this.set, ...other.set })
      this.#with.set(other, both)
    }
    return both
  }
}

const NONE = new PreparedHeaders({})

/** Node's response, which can be given prepared headers. */
export class PreparedResponse extends ServerResponse {
  #shared = NONE
  /** Made for this answer. */
  #made: Prepared | null = null
  #guard: Guard | null = null
  #guarded: FastifyReply | null = null
  #isEnding = false
  #body = ''
  /** @internal Each has its own, which stays where another framework gives the response its own prototype (Express does). */
  readonly _storeHeader = PreparedResponse.#storeBoth

  /**
   * Adds headers of which there are none yet; false where they have to be set one by one.
   *
   * @param headers `PreparedHeaders`, or once an answer others, whose text the caller answers for
   */
  prepare (headers: Prepared): boolean {
    if (!isAble || this.headersSent || super.getHeaderNames().length > 0) return false
    if (!(headers instanceof PreparedHeaders)) {
      if (this.#made !== null) return false
      this.#made = headers
    } else this.#shared = this.#shared === NONE ? headers : this.#shared.with(headers)
    return true
  }

  /** Has nothing written before the guard permits it; where it does not, the head is dropped, and all that follow. False where it cannot be guarded here. */
  guardHead (guard: Guard, reply: FastifyReply): boolean {
    this.#guard = guard
    this.#guarded = reply
    return isAble
  }

  override getHeader (name: string): number | string | string[] | undefined {
    const known = name.toLowerCase()
    return this.#shared.set[known] ?? (this.#made?.has(known) === true ? this.#made.set[known] : super.getHeader(name))
  }

  override hasHeader (name: string): boolean {
    return this.#isPrepared(name) || super.hasHeader(name)
  }

  override getHeaders (): OutgoingHttpHeaders {
    return Object.assign(super.getHeaders(), this.#shared.set, this.#made?.set)
  }

  override getHeaderNames (): string[] {
    return [...super.getHeaderNames(), ...this.#shared.names, ...Object.keys(this.#made?.set ?? NONE.set)]
  }

  override setHeader (name: string, value: number | string | readonly string[]): this {
    if (this.#isPrepared(name)) this.#unfold()
    return super.setHeader(name, value)
  }

  override appendHeader (name: string, value: string | readonly string[]): this {
    if (this.#isPrepared(name)) this.#unfold()
    return super.appendHeader(name, value)
  }

  override removeHeader (name: string): void {
    if (this.#isPrepared(name)) this.#unfold()
    super.removeHeader(name)
  }

  override end (...given: unknown[]): this {
    this.#isEnding = isAble && typeof given[0] === 'string'
    try {
      return (super.end as (...given: unknown[]) => this)(...given)
    } finally {
      this.#isEnding = false
    }
  }

  /** @internal Where an empty text ends the answer, the body is kept until then; Node sends it at once. */
  _send (data: unknown, encoding: unknown, callback: unknown, length: unknown): boolean {
    if (this.#body !== '') {
      const body = this.#body
      this.#body = ''
      return this.#sendWhole(body, callback)
    }
    if (!this.#isEnding || this.chunkedEncoding || (encoding !== undefined && encoding !== null && encoding !== 'utf8')) {
      return send!.call(this, data, encoding, callback, length)
    }
    if (!endsEmpty) return this.#sendWhole(data as string, callback)
    this.#body = data as string
    return true
  }

  /** Of ASCII both encodings make the same bytes; of anything else in head or body Latin-1 could make the end of a line (CWE-113). */
  #sendWhole (body: string, callback: unknown): boolean {
    const outgoing = this as unknown as Outgoing
    let text = body
    if (!outgoing._headerSent && outgoing._header !== null) {
      text = outgoing._header + body
      outgoing._headerSent = true
    }
    return send!.call(this, text, Buffer.byteLength(text) === text.length ? 'latin1' : 'utf8', callback, undefined)
  }

  static #storeBoth (this: PreparedResponse, statusLine: string, headers: object | null | undefined): void {
    if (this.#guard?.(this.#guarded!) === false) {
      this.#guard = never
      return
    }
    const made = this.#overlaps(headers) ? this.#without(namesIn(headers!)) : null
    if (made === null) {
      storeHeader!.call(this, this.#made === null ? statusLine + this.#shared.text : statusLine + this.#shared.text + this.#made.text, headers)
      return
    }
    storeHeader!.call(this, statusLine + made.text, headers)
    this.#shared = NONE
    this.#made = made
  }

  #isPrepared (name: unknown): boolean {
    if (typeof name !== 'string') return false
    const known = name.toLowerCase()
    return this.#shared.has(known) || this.#made?.has(known) === true
  }

  #overlaps (headers: object | null | undefined): boolean {
    if (headers === undefined || headers === null) return false
    if (Array.isArray(headers)) return namesIn(headers).some(name => this.#isPrepared(name))
    for (const name in headers) if (this.#isPrepared(name)) return true
    return false
  }

  /** What is said by whoever writes the head is not said twice. */
  #without (names: readonly unknown[]): Prepared {
    const set = Object.assign(Object.create(null), this.#shared.set, this.#made?.set) as Record<string, string>
    for (const name of names) Reflect.deleteProperty(set, String(name).toLowerCase())
    return { set, has: name => name in set, text: textOf(set) }
  }

  /** From here on they are ordinary headers. */
  #unfold (): void {
    if (this.headersSent) return
    const set: Record<string, string> = { ...this.#shared.set, ...this.#made?.set }
    this.#shared = NONE
    this.#made = null
    for (const name in set) super.setHeader(name, set[name] as OutgoingHttpHeader as string)
  }
}

/** Whether Node sends an empty text to end an answer whose body it has sent already. */
let endsEmpty = false
const isAble = canPrepare()
let ownHeaders: symbol | null = null

/** Gives a reply headers of which it has none yet; false where they have to be set one by one. */
export function prepare (reply: FastifyReply, headers: Prepared): boolean {
  return reply.raw instanceof PreparedResponse && hasNoneOf(reply, headers) && reply.raw.prepare(headers)
}

/** Sets headers of which the reply has none yet. */
export function setPrepared (reply: FastifyReply, headers: Prepared): void {
  if (!prepare(reply, headers)) reply.headers(headers.set)
}

function hasNoneOf (reply: FastifyReply, headers: Prepared): boolean {
  ownHeaders ??= Object.getOwnPropertySymbols(reply).find(({ description }) => description === OWN_HEADERS) ?? null
  const own = ownHeaders === null ? undefined : (reply as unknown as Record<symbol, object | undefined>)[ownHeaders]
  for (const name in own ?? reply.getHeaders()) if (headers.has(name)) return false
  return true
}

function never (): boolean {
  return false
}

/** A later Node may write in another way: then a head is without its prepared part or a body is lost, and nothing is prepared. */
function canPrepare (): boolean {
  if (storeHeader === undefined || send === undefined) return false
  const sent: unknown[] = []
  class Trial extends ServerResponse {
    _storeHeader (statusLine: string, headers: unknown): void { storeHeader!.call(this, `${statusLine}x-prepared: yes\r\n`, headers) }
    _send (...given: unknown[]): boolean { return sent.push(given.slice(0, 2)) > 0 }
  }
  try {
    const trial = new Trial(new IncomingMessage(null as never))
    trial.writeHead(200, { 'x-set': 'too', 'content-length': '4' })
    trial.end('body', 'utf8')
    const { _header: head, _headerSent: isSent } = trial as unknown as Outgoing
    endsEmpty = sent.length === 2
    return isSent === false && /^HTTP\/1\.1 200 OK\r\nx-prepared: yes\r\nx-set: too\r\n/.test(String(head)) &&
      ['[["body","utf8"],["","latin1"]]', '[["body","utf8"]]'].includes(JSON.stringify(sent))
  } catch {
    return false
  }
}

/** As `writeHead` takes them: an object, a list, or a list of pairs. */
function namesIn (headers: object): unknown[] {
  if (!Array.isArray(headers)) return Object.keys(headers)
  return Array.isArray(headers[0]) ? headers.map(([name]) => name) : headers.filter((_name, i) => i % 2 === 0)
}

function textOf (set: Readonly<Record<string, string>>): string {
  return Object.entries(set).map(([name, value]) => `${name}: ${value}\r\n`).join('')
}

function check (name: string, value: string): void {
  validateHeaderName(name)
  if (name !== name.toLowerCase() || HEEDED.has(name)) throw new TypeError(`the header ${name} cannot be prepared`)
  validateHeaderValue(name, value)
}
