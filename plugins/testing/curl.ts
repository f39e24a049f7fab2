/** Requests as commands of bash that anybody can run; credentials are variables, see masking. */
import { expanded, type Mask, type Part } from './masking.js'
import type { Sent } from './target.js'

/** Bytes of a body that stand in a command as they are. */
const MAX_BODY = 2000
/** Of one that is not, however much of it is the same again and again. */
const MAX_SHOWN = 16_000
/** Beyond it, nobody looks what is repeated. */
const MAX_LOOKED_AT = 1_000_000
const REPEATED = /(\0|[ -~]{1,8}?)\1{63,}/g

/** @param origin of the service, and the path below which it is */
export function curlOf (origin: string, { method, path, headers, body, raw }: Sent, mask: Mask): string {
  const wordOf = (text: string) => word(mask.parts(text))
  if (raw !== undefined) return `${connectionTo(new URL(origin))} < <(${sourceOf(raw.toString('latin1'), mask)})`
  const lines = Object.entries(headers).filter(([name]) => name !== 'content-length').map(([name, value]) => `-H ${wordOf(value === '' ? `${name};` : `${name}: ${value}`)}`)
  const bytes = body === undefined ? null : Buffer.from(body as string).toString('latin1')
  // Of itself curl would say that it is a form.
  const untyped = bytes !== null && !Object.keys(headers).some(name => name.toLowerCase() === 'content-type') ? ["-H 'content-type:'"] : []
  return ['curl -i --path-as-is --globoff', method === 'HEAD' && bytes === null ? '--head' : `-X ${method}`, wordOf(`${origin}${path}`), ...lines, ...untyped, ...bytes === null ? [] : [dataOf(bytes, mask)]].join(' ')
}

function connectionTo ({ protocol, hostname, port }: URL): string {
  return protocol === 'https:' ? `openssl s_client -quiet -connect ${hostname}:${port || 443}` : `curl telnet://${hostname}:${port || 80}`
}

function dataOf (bytes: string, mask: Mask): string {
  if (bytes.length <= MAX_BODY && !bytes.includes('\0')) return `--data-raw ${word(mask.parts(bytes))}`
  const left = bytes.length > MAX_LOOKED_AT ? bytes : bytes.replace(REPEATED, '')
  return left.length > MAX_SHOWN ? `--data-binary @body # of ${bytes.length} bytes` : `--data-binary @- < <(${sourceOf(bytes, mask)})`
}

/** Commands that write these bytes. */
function sourceOf (bytes: string, mask: Mask): string {
  const commands: string[] = []
  let end = 0
  const write = (text: string) => { if (text !== '') commands.push(...mask.parts(text).map(part => typeof part === 'string' && part.includes('\0') ? `printf %b '${octal(part)}'` : `printf %s ${word([part])}`)) }
  for (const { 0: all, 1: unit = '', index } of bytes.matchAll(REPEATED)) {
    write(bytes.slice(end, index))
    const times = all.length / unit.length
    commands.push(unit === '\0' ? `head -c ${times} /dev/zero` : `yes ${word([unit])} | head -n ${times} | tr -d '\\n'`)
    end = index + all.length
  }
  write(bytes.slice(end))
  return commands.join('; ')
}

/** One word of the shell; characters are bytes. */
function word (parts: readonly Part[]): string {
  const isPlain = parts.every(part => typeof part !== 'string' || /^[ #%-[\]-_a-~]*$/.test(part))
  if (isPlain && parts.some(part => typeof part !== 'string')) return `"${parts.map((part, i) => typeof part === 'string' ? part : expanded(part, parts[i + 1])).join('')}"`
  return parts.map(part => typeof part === 'string' ? quoted(part) : `"${expanded(part, undefined)}"`).join('') || "''"
}

function quoted (text: string): string {
  if (/^[ -~]*$/.test(text)) return `'${text.replaceAll("'", "'\\''")}'`
  const named: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' }
  return `$'${text.replace(/[\\']/g, '\\$&').replace(/[^ -~]/g, one => named[one] ?? `\\x${one.charCodeAt(0).toString(16).padStart(2, '0')}`)}'`
}

function octal (text: string): string {
  return text.replace(/[^ -~]|[\\']/g, one => `\\0${one.charCodeAt(0).toString(8).padStart(3, '0')}`)
}
