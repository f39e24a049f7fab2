/**
 * How long a service takes to boot, and whether that grows with its routes or faster: bare Fastify with the schemas that the suite would add,
 * against the suite; with schemas that all routes share, and with schemas that each route has for itself.
 * Each measurement is a process of its own, in milliseconds of the processor, its imports left out; they take turns, and the median counts:
 * `npm run bench -- boot`.
 */
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { Type, type TSchema } from '@sinclair/typebox'
import Fastify, { type FastifyInstance } from 'fastify'
import bastion, { server } from '../plugins/index.js'
import { closed } from '../schemas/closed.js'
import { Problem } from '../schemas/problem.js'
import { alternate } from './rounds.js'
import { median, rounded } from './statistics.js'

const KINDS = ['shared', 'distinct'] as const
const CONTENDERS = ['bare', 'suite'] as const
const ROUTES = [250, 500, 1000, 2000]
const QUICK_ROUTES = [1000]

type Kind = typeof KINDS[number]
interface Row { bareMs: number, suiteMs: number, ratio: number, bareUsOfOne: number, suiteUsOfOne: number }

const shared = schemas()

function schemas (): { body: TSchema, answer: TSchema } {
  return {
    body: closed({ title: Type.String({ maxLength: 200 }), content: Type.String({ maxLength: 10_000 }), tags: Type.Optional(Type.Array(Type.String({ maxLength: 50 }), { maxItems: 10 })) }),
    answer: Type.Object({ id: Type.String(), title: Type.String(), content: Type.String(), tags: Type.Array(Type.String()), createdAt: Type.String() }),
  }
}

function declare (app: FastifyInstance, routes: number, kind: Kind, problems: Record<string, TSchema>): void {
  for (let i = 0; i < routes; i++) {
    const { body, answer } = kind === 'shared' ? shared : schemas()
    const config = { access: 'public' } as never
    if (i % 2 === 0) app.get(`/things-${i}/:id`, { schema: { response: { 200: answer, ...problems } }, config }, async () => ({}))
    else app.post(`/things-${i}`, { schema: { body, response: { 201: answer, ...problems } }, config }, async () => ({}))
  }
}

async function boot (contender: string, routes: number, kind: Kind): Promise<number> {
  const begun = process.cpuUsage()
  const app = contender === 'suite' ? Fastify(server({ logger: false })) : Fastify()
  if (contender === 'suite') await app.register(bastion)
  declare(app, routes, kind, contender === 'suite' ? {} : { '4xx': Problem, '5xx': Problem })
  await app.ready()
  const { user, system } = process.cpuUsage(begun)
  await app.close()
  return (user + system) / 1000
}

function bootOnce (contender: string, routes: number, kind: Kind): number {
  const { stdout } = spawnSync(process.execPath, [fileURLToPath(import.meta.url), contender, String(routes), kind], { encoding: 'utf8' })
  return Number(stdout)
}

export async function measure (quick: boolean) {
  const table: Record<string, Row> = {}
  for (const kind of KINDS) {
    for (const routes of quick ? QUICK_ROUTES : ROUTES) {
      const rounds = await alternate(CONTENDERS, quick ? 1 : 5, async contender => bootOnce(contender, routes, kind))
      const [bare, suite] = [median(rounds.bare), median(rounds.suite)]
      table[`${routes} routes, ${kind} schemas`] = {
        bareMs: rounded(bare, 0), suiteMs: rounded(suite, 0), ratio: rounded(suite / bare), bareUsOfOne: rounded(bare * 1000 / routes, 0), suiteUsOfOne: rounded(suite * 1000 / routes, 0),
      }
    }
  }
  console.table(table)
  return { boot: table }
}

const [, file, contender, routes, kind] = process.argv
if (file === fileURLToPath(import.meta.url)) process.stdout.write(String(await boot(contender!, Number(routes), kind as Kind)))
