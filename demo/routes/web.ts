/**
 * The pages: the shell at the root, and what it is made of under `/web/`. All of it is read and compressed once, and nothing is served that
 * was not read then. It holds no secret, so that compressing it tells none; the shell itself, in which the nonce is, is sent as it is.
 * The browser runs the modules that the shell was made with, or none (Subresource Integrity): the entry by its own attribute, what it imports
 * by the import map.
 */
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { extname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { brotliCompressSync, constants, gzipSync } from 'node:zlib'
import { createError } from '@fastify/error'
import { Type } from '@sinclair/typebox'
import type { FastifyRequest } from 'fastify'
import { NotFound } from '../../plugins/errors.js'
import { closed } from '../../schemas/index.js'
import type { Portal } from '../app.js'
import { OwnProfile, ownProfile } from './shapes.js'

/** A tab that was opened as somebody acts for them alone, whoever signed in beside it since: the browser sends the cookie of the last. */
const OtherUser = createError('FST_PORTAL_OTHER_USER', 'Somebody else is signed in here by now: nothing was done', 409)

const FOLDER = new URL('../web/', import.meta.url)
const TYPES: Readonly<Record<string, string>> = { '.js': 'text/javascript; charset=utf-8', '.css': 'text/css; charset=utf-8' }
const ENTRY = 'portal.js'
/** What the first page needs beside what the entry imports: whoever comes first has to sign in. */
const FIRST = ['style.css', 'pages/sign-in.js']
const IMPORT = /^import .* from '(\.[^']+)'$/gm

type Coding = 'identity' | 'gzip' | 'br'
interface WebFile { text: string, type: string, integrity: string, tag: string, bodies: Record<Coding, Buffer> }

const FILES = new Map(readdirSync(fileURLToPath(FOLDER), { recursive: true, encoding: 'utf8' })
  .filter(name => extname(name) in TYPES).sort().map(name => [name, read(name)]))
const SHELL = shell()

/** Every file under `/web/`, with what is sent of it; for tests. */
export const webFiles: ReadonlyMap<string, WebFile> = FILES

const Caller = closed({
  user: Type.Union([OwnProfile, Type.Null()], { description: 'Null: nobody is signed in' }),
  permissions: Type.Array(Type.String()),
  registration: Type.Union([Type.Literal('open'), Type.Literal('quiet')]),
  mail: Type.Boolean({ description: 'Mails are sent' }),
  lab: Type.Boolean({ description: 'The attack lab is there' }),
  docs: Type.Boolean({ description: 'The documentation of the API is there, at /docs' }),
})

export function webRoutes ({ app, accounts, registration, sendsMail }: Portal): void {
  app.addHook('onRequest', refuseForAnother)

  app.get('/', {
    schema: { hide: true },
    config: { access: 'public', answers: 'raw', headers: { contentSecurityPolicy: 'page', permissionsPolicy: ['publickey-credentials-get', 'publickey-credentials-create'] } },
  }, async (_request, reply) => {
    reply.type('text/html; charset=utf-8')
    return SHELL.replaceAll('{nonce}', reply.scriptNonce)
  })

  app.get('/web/*', {
    schema: { hide: true, params: closed({ '*': Type.String({ maxLength: 100 }) }) },
    // Never older than the page that asks for it. Pages are made of many files: they do not use up what their readers may ask of the API.
    config: { access: 'public', answers: 'raw', headers: { cacheControl: 'no-cache' }, limits: { windows: ['1200/minute'], by: 'address' } },
  }, async (request, reply) => {
    const file = FILES.get(request.params['*'])
    if (file === undefined) throw new NotFound()
    const coding = codingOf(request.headers['accept-encoding'])
    const tag = `"${file.tag}-${coding}"`
    reply.headers({ etag: tag, vary: [reply.getHeader('vary') ?? [], 'accept-encoding'].flat().join(', ') }).type(file.type)
    if (isKnown(request.headers['if-none-match'], tag)) return reply.code(304).send()
    if (coding !== 'identity') reply.header('content-encoding', coding)
    return file.bodies[coding]
  })

  // What the shell shows hangs on it, and nothing else: each route decides for itself.
  app.get('/portal.json', {
    schema: { hide: true, response: { 200: Caller } },
    config: { access: 'public' },
  }, async ({ principal }) => {
    // A key is no person at a page.
    const user = principal?.kind === 'user' ? await accounts.byId(principal.userId) : null
    return {
      user: user === null ? null : ownProfile(user),
      permissions: user === null ? [] : [...app.access.permissionsOf([user.role])].sort(),
      registration,
      mail: sendsMail,
      lab: app.hasRoute({ method: 'GET', url: '/lab/attacks' }),
      docs: app.hasRoute({ method: 'GET', url: '/docs' }) || app.hasRoute({ method: 'GET', url: '/docs/' }),
    }
  })
}

/**
 * Pages say whom they act for, by id, or that they act for nobody (empty); streams of events cannot send headers and say it in the query. What a session
 * of somebody else would do or show instead is refused, once all that the route itself refuses is.
 */
async function refuseForAnother ({ principal, headers, query }: FastifyRequest): Promise<void> {
  const expected = headers['x-expected-user'] ?? (query as { expectedUser?: string }).expectedUser
  if (expected !== undefined && principal?.via === 'session' && principal.userId !== expected) throw new OtherUser()
}

function read (name: string): WebFile {
  const plain = readFileSync(new URL(name, FOLDER))
  const hash = (algorithm: string) => createHash(algorithm).update(plain)
  return {
    text: plain.toString('utf8'),
    type: TYPES[extname(name)]!,
    integrity: `sha384-${hash('sha384').digest('base64')}`,
    tag: hash('sha256').digest('base64url').slice(0, 22),
    bodies: { identity: plain, gzip: gzipSync(plain, { level: 9 }), br: brotliCompressSync(plain, { params: { [constants.BROTLI_PARAM_QUALITY]: 9 } }) },
  }
}

/** The page at the root, but for its nonce. */
function shell (): string {
  const integrity = Object.fromEntries([...FILES].filter(([name]) => name.endsWith('.js')).map(([name, file]) => [`/web/${name}`, file.integrity]))
  const links = [...new Set([...FIRST, ...FIRST.flatMap(importedBy), ...importedBy(ENTRY)])].filter(name => name !== ENTRY)
    .map(name => `<link rel="${name.endsWith('.css') ? 'stylesheet' : 'modulepreload'}" nonce="{nonce}" href="/web/${name}" integrity="${FILES.get(name)!.integrity}">`)
  const parts: Record<string, string> = { importmap: JSON.stringify({ integrity }), links: links.join('\n'), integrity: FILES.get(ENTRY)!.integrity }
  return readFileSync(new URL('index.html', FOLDER), 'utf8').replace(/\{(importmap|links|integrity)\}/g, (_found, name: string) => parts[name]!)
}

/** All that a module needs before it can run. */
function importedBy (name: string): string[] {
  const direct = [...FILES.get(name)!.text.matchAll(IMPORT)].map(([, path]) => new URL(path!, new URL(name, FOLDER)).href.slice(FOLDER.href.length))
  return [...new Set(direct.flatMap(module => [module, ...importedBy(module)]))]
}

/** The best of those that the browser takes (RFC 9110, 12.5.3); as it is where it says nothing. */
function codingOf (accepted = ''): Coding {
  const taken = new Map(accepted.toLowerCase().split(',').map(item => {
    const [name = '', ...parameters] = item.split(';').map(part => part.trim())
    return [name, !parameters.some(parameter => /^q=0(?:\.0*)?$/.test(parameter))]
  }))
  return (['br', 'gzip'] as const).find(coding => taken.get(coding) ?? taken.get('*') ?? false) ?? 'identity'
}

function isKnown (known: string | string[] | undefined, tag: string): boolean {
  return known !== undefined && String(known).split(',').some(one => one.trim().replace(/^W\//, '') === tag || one.trim() === '*')
}
