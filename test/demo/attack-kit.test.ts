/** The attack kit on the member portal: no finding as it is, and one where its plan is weakened while it runs. */
import t from 'tap'
import { asText, attack, type FamilyName, type FindingId } from '../../plugins/testing/index.js'
import type { PlannedRoute } from '../../plugins/plan/index.js'
import { attackedPortal } from './attacked.js'
import { build } from './portal.js'

t.setTimeout(280_000)
const portal = await build(t)
const options = await attackedPortal(portal)

/** What no valid request can be made of, and why. */
const UNPROVEN: Readonly<Record<string, string>> = {
  'POST /session/mfa': 'wants a code of an authenticator after a password',
  'POST /auth/mfa': 'wants a code of an authenticator after a password',
  'POST /mfa/confirm': 'wants a code of an authenticator that was just set up',
  'POST /session/passkey': 'wants the answer of a passkey to a challenge',
  'POST /passkeys/register': 'wants the answer of a passkey to a challenge',
  'POST /passkeys/login': 'wants the answer of a passkey to a challenge',
  'DELETE /passkeys/:passkeyId': 'wants a passkey, which nobody here has',
  'POST /auth/reset': 'wants the link of a mail',
  'POST /auth/confirm': 'wants the link of a mail',
  'DELETE /sessions/:sessionId': 'one principal has sessions, and so no foreign ones',
  'POST /lab/attacks/:name': 'runs a whole attack',
}

t.test('as it is the portal has no finding, on any of its routes', async t => {
  const report = await attack(portal.app, options)
  t.strictSame(report.findings, [], asText(report))
  t.ok(report.routes.length >= 90, `${report.routes.length} routes`)
  t.strictSame(report.checks.filter(({ state }) => state !== 'held').map(({ id, state }) => `${id} ${state}`), ['authorization.step-up not applicable', 'authorization.unlisted not applicable', 'input.replay not applicable', 'input.race not applicable', 'leaks.accounts not applicable'])
  // Of limits nothing is proven where they are larger than the kit may spend, or the machine too slow.
  const unproven = report.unproven.filter(({ what }) => !what.startsWith('limits.'))
  t.strictSame([...new Set(unproven.map(({ route }) => route))].filter(route => UNPROVEN[route] === undefined), [], unproven.map(({ route, reason }) => `${route}: ${reason}`).join('\n'))
  t.comment(`${report.routes.length} routes, ${report.requests} requests, ${report.duration} ms`)
})

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

t.test('a control that is taken out of the plan while the portal runs is found, each by its name', async t => {
  for (const [finds, name, phase, weakened = name] of WEAKENED) {
    const route = portal.app.plan.routes.find(({ method, url }) => `${method} ${url}` === weakened) as PlannedRoute & { chains: Record<Phase, unknown> }
    const kept = route.chains[phase]
    route.chains[phase] = null
    const { findings } = await attack(portal.app, { ...options, only: [name], families: [finds.split('.')[0] as FamilyName] }).finally(() => { route.chains[phase] = kept })
    t.ok(findings.some(({ id }) => id === finds), `${finds} at ${weakened}: ${findings.map(({ id }) => id).join(', ')}`)
  }
})
