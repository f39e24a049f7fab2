/**
 * The log: one line a request, and nothing secret in any line.
 *
 * Threat: passwords, tokens, cookies and connection strings in log files (CWE-532); forged lines (CWE-117, which
 * pino's JSON prevents by itself).
 * Defence: what stands under the name of a secret is replaced at any depth, whoever logs it; texts lose credentials
 * in URLs, query strings, tokens and `password=…`; errors are reduced to what locates the fault.
 * Not covered: a secret that a service writes into a text in a form of its own.
 */
import { LogController, type FastifyReply, type FastifyRequest, type FastifyServerOptions } from 'fastify'

/** What the option `logger` takes: a level, pino's options, or `false`. */
export type LoggerOption = FastifyServerOptions['logger'] | string

const CENSORED = '[redacted]'
const UNREADABLE = 'an error that cannot be read'
/** Names under which secrets travel, in any spelling: `newPassword`, `refresh_token`, `X-API-Key`, `set-cookie`. */
const SECRET_NAME = /pass(?:word|wd|phrase|code)|^pass$|^pwd$|secret|token(?!s$|_?type|ttl)|authorization|cookie|api[-_]?key|private[-_]?key|credential(?!id|s$|_id)|^key$|^otp$|^pin$|^cvv$|card[-_]?number|connection[-_]?string/i
/** Depth to which a logged object is searched. */
const DEPTH = 6
const TEXTS: readonly [RegExp, string][] = [
  [/\b([a-z][a-z0-9+.-]{1,20}:\/\/)[^\s'"<>]{0,1024}@/gi, `$1${CENSORED}@`],
  [/\?[^\s'"<>)]{1,8192}/g, '?…'],
  [/\b(pass(?:word|wd|phrase)?|pwd|secret|token|api[-_]?key)=[^\s;,&'"]+/gi, `$1=${CENSORED}`],
  [/\beyJ[\w-]{5,}\.[\w-]+\.[\w-]*/g, CENSORED],
  [/\b([a-z][a-z0-9]{1,15}_(?:live|test)_)[0-9A-Za-z]{24,}/g, `$1${CENSORED}`],
  [/\b(Bearer|Basic) [\w.~+/-]{8,}=*/gi, `$1 ${CENSORED}`],
]
const SUSPICIOUS = /[?=]|:\/\/|eyJ|_(?:live|test)_|\b(?:bearer|basic) /i

const known = new Map<string, boolean>()

/** pino's options with our censoring on top of whatever the service asks for. */
export function loggerOf (logger: LoggerOption): FastifyServerOptions['logger'] {
  if (logger === false) return false
  const options = (typeof logger === 'string' ? { level: logger } : logger === true || logger === undefined ? {} : logger) as Record<string, any>
  const { formatters, hooks, serializers } = options
  return {
    ...options,
    formatters: { ...formatters, log: (line: Record<string, unknown>) => censor(formatters?.log === undefined ? line : formatters.log(line), DEPTH) },
    serializers: { req: describeRequest, err: describeError, ...serializers },
    hooks: {
      ...hooks,
      logMethod (this: unknown, args: unknown[], method: (...args: unknown[]) => void, level: number) {
        const safe = concealArguments(args)
        if (hooks?.logMethod === undefined) method.apply(this, safe)
        else hooks.logMethod.call(this, safe, method, level)
      },
    },
  } as never
}

/** Where nothing is logged no line is made either. */
export class NoLog extends LogController {
  override incomingRequest (): void {}
  override routeNotFound (): void {}
  override requestCompleted (): void {}
}

/** One line a request, when it is over: nothing of bodies, headers or query strings. */
export class OneLineLog extends LogController {
  constructor () { super({ requestIdLogLabel: 'requestId' }) }

  override incomingRequest (): void {}

  override routeNotFound (): void {}

  override requestCompleted (error: Error | null | undefined, request: FastifyRequest, reply: FastifyReply): void {
    const line = {
      method: request.method,
      path: pathOf(request),
      status: reply.statusCode,
      ms: Math.round(reply.elapsedTime * 10) / 10,
      address: request.ip,
      ...(request.principal !== null && request.principal !== undefined && { principal: request.principal.id }),
    }
    if (error !== null && error !== undefined) request.log.error({ ...line, err: error }, 'request failed')
    else request.log.info(line, 'request')
  }
}

/** The text without credentials in URLs, query strings, tokens and `password=…`. */
export function conceal (text: string): string {
  if (!SUSPICIOUS.test(text)) return text
  return TEXTS.reduce((concealed, [pattern, replacement]) => concealed.replace(pattern, replacement), text)
}

/** A copy without what stands under the name of a secret; the object itself where there is nothing to hide. */
function censor (object: Record<string, unknown>, depth: number): Record<string, unknown> {
  let copy: Record<string, unknown> | undefined
  for (const name of Object.keys(object)) {
    const value = object[name]
    const safe = isSecret(name) ? hide(value) : censorValue(value, depth)
    if (safe === value) continue
    copy ??= (Array.isArray(object) ? [...object] : { ...object }) as Record<string, unknown>
    copy[name] = safe
  }
  return copy ?? object
}

function censorValue (value: unknown, depth: number): unknown {
  if (typeof value === 'string') return conceal(value)
  if (value === null || typeof value !== 'object') return value
  const prototype = Object.getPrototypeOf(value)
  // Requests, replies and errors have serialisers of their own.
  if (prototype !== Object.prototype && prototype !== null && !Array.isArray(value)) return value
  return depth === 0 ? CENSORED : censor(value as Record<string, unknown>, depth - 1)
}

/** That a secret is absent, or how often something happened, is not secret. */
function hide (value: unknown): unknown {
  return value === undefined || value === null || typeof value === 'boolean' ? value : CENSORED
}

/** Whether secrets travel under this name. */
export function isSecret (name: string): boolean {
  let secret = known.get(name)
  if (secret === undefined) {
    secret = SECRET_NAME.test(name)
    if (known.size < 10_000) known.set(name, secret)
  }
  return secret
}

/** pino takes the message of an error for its own text where none is given. */
function concealArguments (args: unknown[]): unknown[] {
  const [first, text] = args
  const error = first instanceof Error ? first : (first as { err?: unknown } | null | undefined)?.err
  const safe = args.map(arg => typeof arg === 'string' ? conceal(arg) : arg)
  if (error instanceof Error && text === undefined) safe[1] = messageOf(error)
  return safe
}

function describeRequest (request: FastifyRequest) {
  return { method: request.method, path: pathOf(request), address: request.ip }
}

/** Errors of libraries carry connection strings, statements and whole requests: only what locates the fault is logged. */
function describeError (error: unknown, depth = 3): unknown {
  if (!(error instanceof Error)) return conceal(String(error))
  try {
    const { name, message, code, statusCode, stack, cause } = error as Error & { code?: unknown, statusCode?: unknown }
    return {
      type: name,
      message: conceal(message),
      ...(code !== undefined && { code: conceal(String(code)) }),
      ...(statusCode !== undefined && { statusCode: conceal(String(statusCode)) }),
      ...(stack !== undefined && { stack: conceal(String(stack)) }),
      ...(cause !== undefined && depth > 0 && { cause: describeError(cause, depth - 1) }),
    }
  } catch {
    return UNREADABLE
  }
}

function messageOf (error: Error): string {
  try {
    return conceal(error.message)
  } catch {
    return UNREADABLE
  }
}

/** The path as it was asked for, without the query string and without what stands before it. */
function pathOf (request: FastifyRequest): string {
  const { originalUrl, url = '' } = request.raw as { originalUrl?: string, url?: string }
  const path = (originalUrl ?? url).replace(/^[a-z]+:\/\/[^/?#]*/i, '')
  const end = path.search(/[?#]/)
  return (end === -1 ? path : path.slice(0, end)).slice(0, 512)
}
