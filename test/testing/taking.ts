/** A service on plain Fastify that takes passwords, HTML, files, tags and URLs, once as it should and once with a flaw in each; and the policy that both are held to. */
import multipart from '@fastify/multipart'
import Fastify, { type FastifyInstance } from 'fastify'
import type { Policy } from '../../plugins/testing/index.js'

export const TAKING_FLAWS = ['password', 'own name', 'markup', 'markup shown', 'content', 'name', 'size', 'pattern', 'trimming', 'url', 'url later', 'lengths'] as const
export type TakingFlaw = typeof TAKING_FLAWS[number]

const MOST = { bytes: 10_000, side: 100 }
const closed = (properties: Record<string, object>) => ({ type: 'object', additionalProperties: false, required: Object.keys(properties), properties })
const Tag = { type: 'string', maxLength: 40 }
const Link = { type: 'string', maxLength: 200, format: 'uri' }
const Account = closed({ name: { type: 'string', minLength: 8, maxLength: 40 }, password: { type: 'string', minLength: 8, maxLength: 60 } })
const Article = closed({ content: { type: 'string', maxLength: 500, html: 'post' } })

export const takingPolicy: Policy = {
  headers: false,
  routes: {
    'POST /accounts': { access: 'public', body: Account },
    'POST /sign-in': { access: 'public', body: Account },
    'POST /articles': { access: 'public', body: Article },
    'GET /articles/:articleId': 'public',
    'POST /pictures': { access: 'public', upload: { kinds: ['png'], maxBytes: MOST.bytes, maxWidth: MOST.side, maxHeight: MOST.side } },
    'POST /tags': { access: 'public', body: closed({ tag: Tag, note: { type: 'string', maxLength: 20_000 } }) },
    'POST /previews': { access: 'public', body: closed({ url: Link }) },
    'PUT /hook': { access: 'public', body: closed({ url: Link }), connects: 'POST /hook/test' },
    'POST /hook/test': 'public',
  },
}

export function takingService (flaw?: TakingFlaw): FastifyInstance {
  const app = Fastify({ logger: false, ajv: { customOptions: { strict: false } } })
  const articles: string[] = []
  let hook = ''
  app.register(multipart, { limits: { files: flaw === 'size' ? 9 : 1, fileSize: flaw === 'size' ? 1_000_000 : MOST.bytes } })

  app.post<{ Body: { name: string, password: string } }>('/accounts', { schema: { body: Account } }, async ({ body: { name, password } }, reply) => {
    const isCommon = /p[a@]ss|qwerty|welcome|^\d+$/i.test(password)
    return reply.code((isCommon && flaw !== 'password') || (password === name && flaw !== 'own name') ? 400 : 201).send({})
  })
  app.post<{ Body: { password: string } }>('/sign-in', { schema: { body: Account } }, async ({ body: { password } }, reply) => reply.code(password === 'the right password' ? 200 : 401).send({}))
  app.post<{ Body: { content: string } }>('/articles', { schema: { body: Article } }, async ({ body: { content } }, reply) => {
    articles.push(content)
    return reply.code(201).send({ id: articles.length, content: flaw === 'markup' ? content : content.replaceAll('<', '&lt;') })
  })
  app.get<{ Params: { articleId: string } }>('/articles/:articleId', async ({ params: { articleId } }) => {
    const content = articles[Number(articleId) - 1] ?? ''
    return { content: flaw === 'markup shown' ? content : content.replaceAll('<', '&lt;') }
  })
  app.post('/pictures', async (request, reply) => {
    let taken = ''
    for await (const part of request.parts({ preservePath: true } as never)) {
      if (part.type !== 'file') return reply.code(400).send({})
      const content = await part.toBuffer()
      const isPng = content.subarray(1, 4).toString() === 'PNG' && part.mimetype === 'image/png'
      const isSmall = content.length > 24 && content.readUInt32BE(16) <= MOST.side && content.readUInt32BE(20) <= MOST.side
      const isNamed = flaw === 'name' ? part.filename.endsWith('.png') : /^[\w-]+\.png$/.test(part.filename)
      if ((!isPng && flaw !== 'content') || (isPng && !isSmall && flaw !== 'size') || (isPng && !isNamed)) return reply.code(400).send({})
      taken = part.filename
    }
    return reply.code(201).send({ name: taken })
  })
  app.post<{ Body: { tag: string, note: string } }>('/tags', { schema: { body: closed({ tag: Tag, note: { type: 'string', maxLength: 20_000 } }) } }, async ({ body: { tag, note } }, reply) => {
    const isTag = flaw === 'pattern' ? /^([a-z0-9]+-?)+$/i.test(tag) : /^[a-z0-9-]+$/i.test(tag)
    return reply.code(isTag ? 201 : 400).send({ note: flaw === 'trimming' ? note.replace(/\s+$/, '') : note.trimEnd() })
  })
  app.post<{ Body: { url: string } }>('/previews', async ({ body: { url } }, reply) => reply.code(await connect(url, flaw === 'url') ? 200 : 400).send({}))
  app.put<{ Body: { url: string } }>('/hook', async ({ body: { url } }) => { hook = url })
  app.post('/hook/test', async (_request, reply) => reply.code(await connect(hook, flaw === 'url later') ? 200 : 400).send({}))
  if (flaw === 'lengths') Object.assign(app.server, { insecureHTTPParser: true })
  return app

  /** Nothing in the world is called that. */
  async function connect (url: string, isByText: boolean): Promise<boolean> {
    if (isByText ? /localhost|127\.0\.0\.1/i.test(url) : !new URL(url).hostname.endsWith('.invalid')) return false
    return fetch(url).then(() => true, () => false)
  }
}
