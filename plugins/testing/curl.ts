/** Requests as commands that anybody can run; credentials are variables of the shell. */
import type { Sent } from './target.js'

const CREDENTIALS = ['authorization', 'x-api-key', 'cookie', 'x-csrf-token', 'dpop', 'proxy-authorization']
const MAX_BODY = 2000

/** @param name of who sends it; what they are known by stands for itself no more. `shown`: what the attack has made, and must be seen */
export function curlOf (origin: string, { method, path, headers, body, raw }: Sent, name: string | null, shown: ReadonlySet<string>): string {
  const variable = (name ?? 'nobody').toUpperCase().replace(/[^A-Z0-9]+/g, '_')
  if (raw !== undefined) return `curl telnet://${new URL(origin).hostname}:${new URL(origin).port || 80} < <(printf '%b' "${escaped(raw, headers, variable)}")`
  const lines = Object.entries(headers).filter(([key]) => key !== 'content-length').map(([key, value]) => {
    const isOwn = CREDENTIALS.includes(key) && !shown.has(key)
    if (!isOwn) return `-H ${quoted(`${key}: ${value}`)}`
    const scheme = key === 'authorization' ? `${value.split(' ', 1)[0]} ` : ''
    return `-H "${key}: ${scheme}$${variable}_${key.toUpperCase().replaceAll('-', '_')}"`
  })
  const text = body?.toString() ?? ''
  const sent = body === undefined ? [] : [`--data-binary ${quoted(text.length > MAX_BODY ? `${text.slice(0, MAX_BODY)}…` : text)}`]
  return ['curl -i --path-as-is', ...method === 'HEAD' ? ['--head'] : [`-X ${method}`], quoted(`${origin}${path}`), ...lines, ...sent].join(' ')
}

/** Bytes between double quotes, as `printf` of a shell reads them. */
function escaped (raw: Buffer, headers: Sent['headers'], variable: string): string {
  const text = raw.toString('latin1').replace(/[\\"$`]/g, '\\$&').replaceAll('\r', '\\r').replaceAll('\n', '\\n')
  return Object.entries(headers).filter(([key]) => CREDENTIALS.includes(key)).reduce((left, [key, value]) => left.replace(value, `$${variable}_${key.toUpperCase().replaceAll('-', '_')}`), text)
}

function quoted (text: string): string {
  return `'${text.replaceAll("'", "'\\''").replaceAll('\n', ' ').replaceAll('\0', '\\0')}'`
}
