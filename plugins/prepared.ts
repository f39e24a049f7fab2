/**
 * Prepared headers: what is the same on many answers is checked and joined once, at boot, and goes out as one text.
 *
 * Node checks, stores and joins every header of every answer. For the fourteen of a policy and the four of CORS that
 * was a third of what a small answer costs. Whoever asks for a prepared header, sets or removes it, or writes one of its
 * name, on the reply or on the raw response, meets it as an ordinary one, and wins. What is written past Fastify has them too.
 * Where the response is not ours (`app.inject`, HTTP/2, a server that was not made with `server()`), the headers are set
 * one by one.
 */
import { IncomingMessage, ServerResponse, validateHeaderName, validateHeaderValue, type OutgoingHttpHeader, type OutgoingHttpHeaders } from 'node:http'
import type { FastifyReply } from 'fastify'

type StoreHeader = (this: ServerResponse, statusLine: string, headers: unknown) => void

/** Node reads these while it writes the head, and acts on them. */
const HEEDED = new Set(['connection', 'content-length', 'transfer-encoding', 'date', 'expect', 'trailer', 'upgrade', 'keep-alive', 'set-cookie'])
/** Where Node writes the head, after the status line. It has had this form since Node 0.8, and is not in the documentation. */
const storeHeader = (ServerResponse.prototype as unknown as { _storeHeader?: StoreHeader })._storeHeader

/** Headers that many answers share. */
export class PreparedHeaders {
  readonly set: Readonly<Record<string, string>>
  readonly names: readonly string[]
  /** As they stand on the wire. */
  readonly text: string
  readonly #with = new WeakMap<PreparedHeaders, PreparedHeaders>()

  /** @throws TypeError for a name or value that no header can have, or that Node has to see by itself */
  constructor (set: Readonly<Record<string, string>>) {
    this.set = Object.freeze(Object.assign(Object.create(null), set)) as Record<string, string>
    this.names = Object.keys(set)
    this.text = Object.entries(set).map(([name, value]) => `${checkedName(name)}: ${checkedValue(name, value)}\r\n`).join('')
  }

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
  #prepared = NONE

  /** Adds headers of which there are none yet; false where they have to be set one by one. */
  prepare (headers: PreparedHeaders): boolean {
    if (!isAble || this.headersSent || super.getHeaderNames().length > 0) return false
    this.#prepared = this.#prepared === NONE ? headers : this.#prepared.with(headers)
    return true
  }

  override getHeader (name: string): number | string | string[] | undefined {
    return this.#prepared.set[name.toLowerCase()] ?? super.getHeader(name)
  }

  override hasHeader (name: string): boolean {
    return name.toLowerCase() in this.#prepared.set || super.hasHeader(name)
  }

  override getHeaders (): OutgoingHttpHeaders {
    return Object.assign(super.getHeaders(), this.#prepared.set)
  }

  override getHeaderNames (): string[] {
    return [...super.getHeaderNames(), ...Object.keys(this.#prepared.set)]
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

  override writeHead (status: number, ...rest: unknown[]): this {
    const headers = typeof rest[0] === 'string' ? rest[1] : rest[0] ?? rest[1]
    if (this.#prepared !== NONE && headers !== undefined && headers !== null && this.#overlaps(headers)) this.#unfold()
    return (super.writeHead as (status: number, ...rest: unknown[]) => this)(status, ...rest)
  }

  /** @internal */
  _storeHeader (statusLine: string, headers: unknown): void {
    storeHeader!.call(this, statusLine + this.#prepared.text, headers)
  }

  #isPrepared (name: unknown): boolean {
    return typeof name === 'string' && name.toLowerCase() in this.#prepared.set
  }

  #overlaps (headers: object): boolean {
    if (Array.isArray(headers)) return true
    for (const name in headers) if (this.#isPrepared(name)) return true
    return false
  }

  /** From here on they are ordinary headers. */
  #unfold (): void {
    const { set } = this.#prepared
    this.#prepared = NONE
    for (const name in set) super.setHeader(name, set[name] as OutgoingHttpHeader as string)
  }
}

const isAble = canPrepare()

/** Sets headers of which the reply has none yet. */
export function setPrepared (reply: FastifyReply, headers: PreparedHeaders): void {
  const { raw } = reply
  if (!(raw instanceof PreparedResponse) || !raw.prepare(headers)) reply.headers(headers.set)
}

/** A later Node may write its heads in another way: then a head is without its prepared part, and they are set one by one. */
function canPrepare (): boolean {
  if (storeHeader === undefined) return false
  class Trial extends ServerResponse {
    _storeHeader (statusLine: string, headers: unknown): void { storeHeader!.call(this, `${statusLine}x-prepared: yes\r\n`, headers) }
  }
  const trial = new Trial(new IncomingMessage(null as never))
  trial.writeHead(200, { 'x-set': 'too' })
  const head = (trial as unknown as { _header?: string })._header ?? ''
  return /^HTTP\/1\.1 200 OK\r\nx-prepared: yes\r\nx-set: too\r\n/.test(head)
}

function checkedName (name: string): string {
  validateHeaderName(name)
  if (name !== name.toLowerCase() || HEEDED.has(name)) throw new TypeError(`the header ${name} cannot be prepared`)
  return name
}

function checkedValue (name: string, value: string): string {
  validateHeaderValue(name, value)
  return value
}
