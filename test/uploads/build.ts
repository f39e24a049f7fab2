/** A service that takes uploads, as the tests of uploads ask it. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { connect, type AddressInfo, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Fastify, { type FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import bastion, { server } from '../../plugins/index.js'
import type { SecurityEvent } from '../../plugins/events.js'
import type { UploadRule, UploadsOptions } from '../../plugins/uploads/index.js'
import { formOf, type Part } from './forms.js'

export const MIB = 1_048_576
export const CODES = {
  malformed: 'FST_BASTION_UPLOADS_MALFORMED',
  tooLarge: 'FST_BASTION_UPLOADS_TOO_LARGE',
  type: 'FST_BASTION_UPLOADS_TYPE',
  content: 'FST_BASTION_UPLOADS_CONTENT',
  active: 'FST_BASTION_UPLOADS_ACTIVE',
  scan: 'FST_BASTION_UPLOADS_SCAN',
  unscanned: 'FST_BASTION_UPLOADS_UNSCANNED',
  quota: 'FST_BASTION_UPLOADS_QUOTA',
  timeout: 'FST_BASTION_UPLOADS_TIMEOUT',
  cutOff: 'FST_BASTION_UPLOADS_CUT_OFF',
  busy: 'FST_BASTION_UPLOADS_BUSY',
} as const

export interface Answer { status: number, code?: string, body: any, headers: Record<string, unknown> }

export interface Service {
  app: FastifyInstance
  folder: string
  events: SecurityEvent[]
  /** How often a handler came past `request.upload()`. */
  handled: () => number
  /** What lies in the folder. */
  stored: () => string[]
  send: (url: string, parts: readonly Part[] | Part, headers?: Record<string, string>) => Promise<Answer>
  /** Port of the service, which listens from then on. */
  port: () => Promise<number>
}

const RULES: Record<string, UploadRule> = {
  '/image': { kinds: ['jpeg', 'png', 'gif', 'webp'], maxBytes: 5 * MIB },
  '/document': { kinds: ['pdf', 'docx'], maxBytes: 10 * MIB },
}

export function folderOf (t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'uploads-'))
  t.teardown(() => { rmSync(folder, { recursive: true, force: true }) })
  return folder
}

export async function build (t: Test, options: Partial<UploadsOptions> = {}, rules: Record<string, UploadRule> = RULES): Promise<Service> {
  const folder = folderOf(t)
  const events: SecurityEvent[] = []
  let handled = 0
  const app = Fastify(server({ logger: false }))
  t.teardown(() => app.close())
  await app.register(bastion, {
    uploads: { ...options.storage === undefined && { folder }, ...options },
  })
  app.events.listen(event => events.push(event))
  app.identity.reader({
    name: 'test',
    read: ({ headers }) => headers['x-user'] === undefined
      ? null
      : { principal: { kind: 'user', id: String(headers['x-user']), userId: String(headers['x-user']), roles: [], via: 'bearer', authTime: Date.now() / 1000, credentialId: 'c' } },
  })
  for (const [url, upload] of Object.entries(rules)) {
    app.post(url, {
      schema: { response: { 201: { type: 'object', additionalProperties: false, properties: Object.fromEntries(['name', 'size', 'type', 'sha256', 'originalName', 'width', 'height'].map(name => [name, { type: ['string', 'integer'] }])) } } },
      config: { access: 'user', limits: false, upload },
    }, async (request, reply) => {
      const file = await request.upload()
      handled += 1
      if (request.headers['x-handler'] === 'fails') throw new Error('the handler fails')
      if (request.headers['x-handler'] === 'forgets') return reply.code(201).send({ name: file.name })
      reply.code(201)
      return file.save()
    })
  }
  await app.ready()

  return {
    app,
    folder,
    events,
    handled: () => handled,
    stored: () => readdirSync(folder),
    async send (url, parts, headers = {}) {
      const { body, type } = formOf([parts].flat() as Part[])
      const answer = await app.inject({ method: 'POST', url: `http://localhost${url}`, headers: { 'content-type': type, 'x-user': 'ada', ...headers }, payload: body })
      const told = answer.json()
      return { status: answer.statusCode, code: told.code, body: told, headers: answer.headers }
    },
    async port () {
      if (!app.server.listening) await app.listen({ port: 0, host: '127.0.0.1' })
      return (app.server.address() as AddressInfo).port
    },
  }
}

/** A connection, and all that comes from it. */
export async function dial (t: Test, port: number): Promise<{ socket: Socket, answer: Promise<string> }> {
  const socket = connect(port, '127.0.0.1')
  t.teardown(() => socket.destroy())
  let text = ''
  const answer = new Promise<string>(resolve => {
    socket.on('data', data => { text += data.toString('latin1') })
    socket.on('error', () => {})
    socket.on('close', () => resolve(text))
  })
  await new Promise(resolve => { socket.once('connect', resolve) })
  return { socket, answer }
}

/** Waits until something holds, at most some seconds. */
export async function until (holds: () => boolean): Promise<boolean> {
  for (let i = 0; i < 400 && !holds(); i++) await new Promise(resolve => { setTimeout(resolve, 10) })
  return holds()
}

export function headOf (url: string, type: string, length: number | null, more: Record<string, string> = {}): string {
  const framing = length === null ? 'Transfer-Encoding: chunked' : `Content-Length: ${length}`
  return [`POST ${url} HTTP/1.1`, 'Host: localhost', 'X-User: ada', `Content-Type: ${type}`, framing, ...Object.entries(more).map(pair => pair.join(': ')), '', ''].join('\r\n')
}
