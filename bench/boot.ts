/**
 * How long 1,000 routes take to boot: bare Fastify with the schemas that the suite would add, against the suite.
 * Each measurement is a process of its own, in milliseconds of the processor; the two alternate, and the median counts.
 *
 *     node --import tsx bench/boot.ts [rounds]
 */
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { Type, type TSchema } from '@sinclair/typebox'
import Fastify, { type FastifyInstance } from 'fastify'
import bastion, { server } from '../plugins/index.js'
import { closed } from '../schemas/closed.js'
import { Problem } from '../schemas/problem.js'

const ROUTES = 1000
const kinds = ['shared', 'distinct'] as const
type Kind = typeof kinds[number]

const shared = schemas()

function schemas (): { body: TSchema, answer: TSchema } {
  return {
    body: closed({ title: Type.String({ maxLength: 200 }), content: Type.String({ maxLength: 10_000 }), tags: Type.Optional(Type.Array(Type.String({ maxLength: 50 }), { maxItems: 10 })) }),
    answer: Type.Object({ id: Type.String(), title: Type.String(), content: Type.String(), tags: Type.Array(Type.String()), createdAt: Type.String() }),
  }
}

function declare (app: FastifyInstance, kind: Kind, problems: Record<string, TSchema>): void {
  for (let i = 0; i < ROUTES; i++) {
    const { body, answer } = kind === 'shared' ? shared : schemas()
    const config = { access: 'public' } as never
    if (i % 2 === 0) app.get(`/things-${i}/:id`, { schema: { response: { 200: answer, ...problems } }, config }, async () => ({}))
    else app.post(`/things-${i}`, { schema: { body, response: { 201: answer, ...problems } }, config }, async () => ({}))
  }
}

async function boot (contender: string, kind: Kind): Promise<number> {
  const begun = process.cpuUsage()
  const app = contender === 'suite' ? Fastify(server({ logger: false })) : Fastify()
  if (contender === 'suite') await app.register(bastion)
  declare(app, kind, contender === 'suite' ? {} : { '4xx': Problem, '5xx': Problem })
  await app.ready()
  const { user, system } = process.cpuUsage(begun)
  await app.close()
  return (user + system) / 1000
}

function measure (contender: string, kind: Kind): number {
  const { stdout } = spawnSync(process.execPath, ['--import', 'tsx', fileURLToPath(import.meta.url), 'one', contender, kind], { encoding: 'utf8' })
  return Number(stdout)
}

function median (values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]!
}

const [mode = '7', contender = '', kind = 'shared'] = process.argv.slice(2)
if (mode === 'one') {
  process.stdout.write(String(await boot(contender, kind as Kind)))
} else {
  for (const kind of kinds) {
    const bare: number[] = []
    const suite: number[] = []
    for (let i = 0; i < Number(mode); i++) {
      bare.push(measure('bare', kind))
      suite.push(measure('suite', kind))
    }
    const [one, other] = [median(bare), median(suite)]
    console.log(`${kind} schemas: bare Fastify ${one.toFixed(0)} ms, the suite ${other.toFixed(0)} ms: ${(other / one).toFixed(2)}×`)
  }
}
