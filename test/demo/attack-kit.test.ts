/** The attack kit on the member portal: no finding as it is, and one where its plan is weakened while it runs. */
import { randomBytes } from 'node:crypto'
import t from 'tap'
import { asText, attack, type FamilyName, type FindingId, type Report } from '../../plugins/testing/index.js'
import type { PlannedRoute } from '../../plugins/plan/index.js'
import { attackedPortal } from './attacked.js'
import { build } from './portal.js'

t.setTimeout(600_000)
const portal = await build(t)
const options = await attackedPortal(portal)

/** By route, what is unproven there, and why. */
const UNPROVEN: Readonly<Record<string, { what: RegExp, why: string }>> = {
  'POST /lab/attacks/:name': { what: /./, why: 'each attack of the lab starts two services' },
  'POST /introspect': { what: /^assignment\./, why: 'a form: what it does not know is dropped, and no answer shows it' },
  'POST /revoke': { what: /^assignment\./, why: 'a form: what it does not know is dropped, and no answer shows it' },
}

type Phase = 'edge' | 'guard' | 'parsed' | 'resource'
const WEAKENED: readonly [finds: FindingId, route: string, phase: Phase, ofTwin?: string][] = [
  ['authorization.open', 'GET /api/v2/users', 'guard'],
  ['authorization.object', 'GET /orders/:orderId', 'resource'],
  ['authorization.object', 'GET /documents/:documentId', 'resource'],
  ['authorization.role', 'GET /audit/verify', 'guard'],
  ['authorization.head', 'GET /patients', 'guard', 'HEAD /patients'],
  ['credentials.csrf', 'POST /session/profile', 'guard'],
  ['input.card', 'PUT /documents/:documentId', 'parsed'],
  ['answers.headers', 'GET /posts', 'edge'],
  ['mutations.host', 'GET /posts', 'edge'],
  ['limits.exceeded', 'GET /search', 'guard'],
]

// First, while the audit trail is short: a route reads all of it.
t.test('a control that is taken out of the plan while the portal runs is found, each by its name', async t => {
  for (const [finds, name, phase, weakened = name] of WEAKENED) {
    const route = portal.app.plan.routes.find(({ method, url }) => `${method} ${url}` === weakened) as PlannedRoute & { chains: Record<Phase, unknown> }
    const kept = route.chains[phase]
    route.chains[phase] = phase === 'edge' ? route.chains.guard : null
    const { findings } = await attack(portal.app, { ...options, only: [name], families: [finds.split('.')[0] as FamilyName] }).finally(() => { route.chains[phase] = kept })
    t.ok(findings.some(({ id }) => id === finds), `${finds} at ${weakened}: ${findings.map(({ id }) => id).join(', ')}`)
  }
})

/** Of limits nothing is proven where they are larger than the kit may spend, or the machine too slow. */
function unexpectedOf ({ unproven }: Report): string[] {
  return unproven.filter(({ route, what }) => UNPROVEN[route]?.what.test(what) !== true && !what.startsWith('limits.')).map(({ route, what, reason }) => `${route}: ${reason} (${what})`)
}

/** Reads all of the audit trail, of which every attack makes more: it is attacked first. */
const READS_ALL = 'GET /audit/verify'

t.test('as it is the portal has no finding, on any of its routes', async t => {
  const first = await attack(portal.app, { ...options, only: [READS_ALL] })
  t.strictSame(first.findings, [], asText(first))
  t.strictSame(unexpectedOf(first), [])
  t.equal(first.checks.find(({ id }) => id === 'authorization.role')!.state, 'held')
  const report = await attack(portal.app, { ...options, routes: { ...options.routes, [READS_ALL]: { skip: 'it was attacked before' } } })
  t.strictSame(report.findings, [], asText(report))
  t.ok(report.routes.length >= 90, `${report.routes.length} routes`)
  t.strictSame(report.checks.filter(({ state }) => state !== 'held').map(({ id, state }) => `${id} ${state}`), ['authorization.step-up not applicable', 'authorization.unlisted not applicable'])
  t.strictSame(unexpectedOf(report), [])
  t.comment(`${report.routes.length} routes, ${report.requests} requests, ${report.duration} ms`)
})

t.test('who registers is not told whose address there is', async t => {
  const fresh = () => `n_${randomBytes(8).toString('hex')}`
  const body = () => ({ username: fresh(), email: 'alice@portal.example', password: 'Attacked-pass-1' })
  const { findings, checks } = await attack(portal.app, { ...options, only: ['POST /auth/register'], families: ['leaks'], routes: { 'POST /auth/register': { body, conceals: 'email' } } })
  t.strictSame(findings, [])
  t.match(checks.find(({ id }) => id === 'leaks.accounts'), { state: 'held', tried: 1 })
})
