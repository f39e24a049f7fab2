/** Secrets: strength and purpose. */
import { hash, hkdfSync } from 'node:crypto'
import { PUBLISHED } from './published.js'

const MIN_BYTES = 32
/** Distinct values among 32 random bytes, or among their differences: 30 on average, fewer than 20 once in billions. */
const MIN_DISTINCT = 20
/** Words of defaults and examples. Seven letters or more: shorter ones turn up in random text by chance. */
const WORDS = /password|change[-_ ]?(?:me|this|it)|default|example|develop|keyboard|insecure|private|replace|fastify|bastion/i
/** Those of six only as people write them: of a million random secrets one holds a `sEcrEt`. */
const SHORTER = new RegExp(['secret', 'passwd', 'sample', 'qwerty', 'abcdef', 'please']
  .flatMap(word => [word, word.toUpperCase(), word[0]!.toUpperCase() + word.slice(1)]).join('|'))
/** Nothing but short ones. */
const SHORT_WORDS = /^(?:test|dev|demo|key|admin|root|s3cr3t)+[\d!._-]*$/i

/**
 * The bytes of a secret written in base64url, base64 or hex.
 *
 * @returns null where the text is none of these
 */
export function decodeSecret (text: string): Buffer | null {
  if (/^(?:[0-9a-f]{2})+$/i.test(text)) return Buffer.from(text, 'hex')
  return /^[\w-]+={0,2}$|^[A-Za-z0-9+/]+={0,2}$/.test(text) ? Buffer.from(text, 'base64url') : null
}

/** Passwords that services come with, or that their documentation shows (CWE-1392), beside those of {@link WORDS} and {@link PUBLISHED}. */
const DEFAULT_PASSWORDS = new Set([
  '0000', '1111', '123', '1234', '12345', '123456', '1234567', '12345678', '123456789', '1234567890',
  'admin', 'administrator', 'root', 'toor', 'user', 'guest', 'test', 'dev', 'demo', 'pass', 'letmein', 'welcome', 'portal',
  'postgres', 'postgresql', 'mysql', 'redis', 'foobared', 'mongo', 'mongodb', 'rabbitmq', 'elastic', 'elasticsearch', 'minio', 'minioadmin', 'vault', 'myroot',
])
const DEFAULT_WORDS = new RegExp([
  '^(?:my|your|the|our|super|top|db|user|root|admin|postgres|some)?[-_ ]?',
  '(?:secret|passwo?r?d|pw|change[-_ ]?(?:me|this|it)|default|example|sample)',
  '(?:[-_ ]?(?:pw|password|key|here|please))*$',
].join(''), 'i')
/** What people put behind them. */
const ENDING = /[\d!@#$._-]{1,8}$/
/** And what they write instead of letters. */
const LOOKALIKES: Record<string, string> = { '@': 'a', $: 's', 0: 'o', 1: 'i', 3: 'e', 5: 's' }

/**
 * What is wrong with a secret (CWE-521, CWE-1392); null where nothing is. The value is never part of the answer.
 * What it cannot know: whether bytes that look random were published elsewhere than in the documentation that it knows.
 */
export function weaknessOf (text: string): string | null {
  const bytes = decodeSecret(text)
  const isHex = /^[0-9a-f]+$/i.test(text)
  if (SHORT_WORDS.test(text) || (!isHex && hasWord(text))) return 'is a well-known default'
  if (isPublished(text)) return 'is copied from a documentation, where everybody can read it'
  if (bytes === null) return 'must be base64url or hex'
  if (bytes.length < MIN_BYTES) return `must have at least ${MIN_BYTES} bytes`
  const written = writtenIn(bytes)
  if (hasWord(written)) return 'is a well-known default'
  const isProse = (!isHex && hasOneCase(text)) || (written !== '' && (hasOneCase(written) || / \w+ /.test(written)))
  const steps = bytes.map((byte, i) => (byte - bytes[i - 1]!) & 255).subarray(1)
  if (isProse || new Set(bytes).size < MIN_DISTINCT || new Set(steps).size < MIN_DISTINCT) return 'has too little entropy'
  return null
}

function hasWord (text: string): boolean {
  return WORDS.test(text) || SHORTER.test(text)
}

/** What somebody wrote and encoded; empty where the bytes are no text: random ones are, once in 10^13. */
function writtenIn (bytes: Buffer): string {
  return /^([ -~]+)\s*$/.exec(bytes.toString('latin1'))?.[1] ?? ''
}

/** Prose has no capitals, or nothing else: base64 of random bytes has both. */
function hasOneCase (text: string): boolean {
  return text === text.toLowerCase() || text === text.toUpperCase()
}

/** Whether a text, or what it encodes, stands in a documentation. */
export function isPublished (text: string): boolean {
  const bytes = decodeSecret(text)
  const decoded = bytes === null ? [] : (['hex', 'base64', 'base64url', 'utf8'] as const).map(encoding => bytes.toString(encoding)).flatMap(form => [form, form.toUpperCase(), form.trim()])
  const forms = [text, text.trim(), text.replace(/=+$/, ''), ...decoded]
  return forms.some(form => PUBLISHED.has(hash('sha256', form)))
}

/** Whether somebody guesses it first (CWE-1392): a password, or a URL with one; a URL without one is for a service that knows its clients otherwise. */
export function isDefaultCredential (text: string): boolean {
  if (!/^[a-z][a-z\d+.-]*:\/\//i.test(text)) return isDefaultPassword(text)
  // With several hosts, as databases have them, it is none that URL knows.
  const [, user = '', secret = ''] = /^[^/]+\/\/([^:@/]*):([^@/]*)@/.exec(text) ?? []
  const { username, password, searchParams } = URL.canParse(text) ? new URL(text) : { username: user, password: secret, searchParams: new URLSearchParams() }
  const names = [unescaped(username), ...searchParams.getAll('user')]
  // Drivers take it from the query too.
  return [unescaped(password), ...searchParams.getAll('password')].some(one => one !== '' && (isDefaultPassword(one) || names.includes(one)))
}

function isDefaultPassword (text: string): boolean {
  const forms = [text, text.replace(ENDING, '')]
  const letters = forms.map(form => form.replace(/[@$0135]/g, sign => LOOKALIKES[sign]!))
  return [...forms, ...letters].some(form => DEFAULT_PASSWORDS.has(form.toLowerCase()) || DEFAULT_WORDS.test(form)) || isPublished(text)
}

function unescaped (text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}

/**
 * A key for one purpose from the master secret (HKDF-SHA-256, RFC 5869, salt `fastify-bastion`): who learns the key of one
 * purpose learns neither the master nor the key of another.
 *
 * @param purpose names the use, such as `tokens:access`; it is the `info` of HKDF
 * @param bytes length of the key (default 32)
 * @throws TypeError for a master of fewer than 32 bytes, and for an empty purpose
 */
export function deriveKey (master: Buffer, purpose: string, bytes = 32): Buffer {
  if (!Buffer.isBuffer(master) || master.length < MIN_BYTES) throw new TypeError(`deriveKey: the master secret must be a Buffer of at least ${MIN_BYTES} bytes`)
  if (typeof purpose !== 'string' || purpose === '') throw new TypeError('deriveKey: every key needs a purpose')
  return Buffer.from(hkdfSync('sha256', master, 'fastify-bastion', purpose, bytes))
}
