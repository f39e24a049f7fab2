/**
 * Where the processor's time of a request goes: `npm run bench -- --profile suite [kind]`. A contender answers under `--cpu-prof`; written are the profile
 * of the answered requests (without boot and warm-up), its flame graph, and the functions by the time that they took themselves.
 */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { asked, check, questions, type Kind } from './asking.js'
import { flame } from './flame.js'
import { CONNECTIONS, order, root, serve, startLoad, stop } from './rounds.js'
import { rounded } from './statistics.js'

/** V8's format: nodes of a tree of calls, and the node of each sample with the microseconds since the last. */
interface Profile { nodes: { id: number, callFrame: CallFrame, children?: number[] }[], startTime: number, endTime: number, samples: number[], timeDeltas: number[] }
interface CallFrame { functionName: string, url: string, lineNumber: number }
/** `native`: of V8 and of what Node has in C++; `generated`: validators and serializers, made at boot; `service`: the handler. */
export type Owner = 'ours' | 'Fastify' | 'Node' | 'native' | 'generated' | 'packages' | 'service'
/** A call in its place: microseconds of its own, and its callees. */
export interface Call { name: string, where: string, owner: Owner, self: number, callees: Map<string, Call> }

const WARM_UP = 3
const SECONDS = 8
const SHOWN = 40

export async function profile (contender: string, kind: Kind = 'order') {
  const asking = asked(kind)
  const folder = mkdtempSync(join(tmpdir(), 'bastion-profile-'))
  const load = startLoad()
  const server = await serve(contender, asking.settings, ['--cpu-prof', '--cpu-prof-interval', '500', '--cpu-prof-dir', folder])
  await check(contender, asking, server)
  await order(load, { port: server.port, questions: questions(asking, server), connections: CONNECTIONS, seconds: WARM_UP })
  await order(load, { port: server.port, questions: questions(asking, server), connections: CONNECTIONS, seconds: SECONDS })
  await stop(server)
  load.kill()

  const name = kind === 'order' ? contender : `${contender}-${kind.replaceAll(' ', '-')}`
  const results = join(root, 'bench/results')
  mkdirSync(results, { recursive: true })
  const recorded = JSON.parse(readFileSync(join(folder, readdirSync(folder)[0]!), 'utf8')) as Profile
  rmSync(folder, { recursive: true })
  for (const { callFrame } of recorded.nodes) callFrame.url = whereOf(callFrame)
  writeFileSync(join(results, `${name}.cpuprofile`), JSON.stringify(recorded))
  const tree = treeOf(recorded)
  writeFileSync(join(results, `${name}-profile.svg`), flame(tree, `${contender}, ${kind}: processor time by calls`))
  const table = tableOf(tree)
  console.table(table.functions)
  console.table(table.owners)
  return { name: `${name}-profile`, contender, kind, ...table }
}

/** Without the machine's folders: `plugins/cors.ts`, `fastify/lib/reply.js`, `node:net`. */
function whereOf ({ url }: CallFrame): string {
  const inPackage = /.*\/node_modules\/(.+)$/.exec(url)?.[1]
  return inPackage ?? url.replace(/^file:.*\/dist\/bench\//, '').replace(/\.js$/, url.startsWith('file:') ? '.ts' : '.js')
}

function ownerOf ({ url, lineNumber }: CallFrame): Owner {
  if (url === '') return lineNumber < 0 ? 'native' : 'generated'
  if (/^(?:plugins|schemas)\//.test(url)) return 'ours'
  if (url.startsWith('bench/')) return 'service'
  if (url.startsWith('node:')) return 'Node'
  return url.startsWith('fastify/') ? 'Fastify' : 'packages'
}

/** The calls of the last seconds; what stood idle is left out. */
function treeOf ({ nodes, samples, timeDeltas, startTime, endTime }: Profile): Call {
  const byId = new Map(nodes.map(node => [node.id, node]))
  const parents = new Map(nodes.flatMap(({ id, children = [] }) => children.map(child => [child, id] as const)))
  const calls = new Map<number, Call>()

  function callOf (id: number): Call {
    const known = calls.get(id)
    if (known !== undefined) return known
    const { callFrame } = byId.get(id)!
    const name = callFrame.functionName || '(anonymous)'
    const parent = parents.get(id)
    const siblings = parent === undefined ? new Map<string, Call>() : callOf(parent).callees
    const key = `${name} ${callFrame.url}:${callFrame.lineNumber}`
    const call = siblings.get(key) ?? { name, where: callFrame.url, owner: ownerOf(callFrame), self: 0, callees: new Map() }
    siblings.set(key, call)
    calls.set(id, call)
    return call
  }

  const top = callOf(nodes[0]!.id)
  let time = startTime
  for (const [i, id] of samples.entries()) {
    time += timeDeltas[i]!
    if (time > endTime - SECONDS * 1e6 && byId.get(id)!.callFrame.functionName !== '(idle)') callOf(id).self += timeDeltas[i]!
  }
  return top
}

function tableOf (tree: Call) {
  const functions = new Map<string, Pick<Call, 'name' | 'where' | 'owner' | 'self'>>()
  const owners: Partial<Record<Owner, number>> = {}
  let total = 0
  visit(tree)

  function visit ({ name, where, owner, self, callees }: Call): void {
    total += self
    owners[owner] = (owners[owner] ?? 0) + self
    const key = `${name} ${where}`
    const known = functions.get(key) ?? { name, where, owner, self: 0 }
    known.self += self
    functions.set(key, known)
    for (const callee of callees.values()) visit(callee)
  }

  const share = (self: number) => rounded(self / total * 100)
  const shown = [...functions.values()].sort((a, b) => b.self - a.self).slice(0, SHOWN)
  return {
    functions: shown.map(({ name, where, owner, self }) => ({ 'self %': share(self), function: name, where, of: owner })),
    owners: Object.fromEntries(Object.entries(owners).sort(([, a], [, b]) => b - a).map(([owner, self]) => [owner, share(self)])),
  }
}
