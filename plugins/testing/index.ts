/**
 * The attack kit: proves a service secure in its own tests, or says where it is not.
 *
 * Threat: a policy that is right on paper and is not what the wire does (OWASP API Security Top 10), and nobody who tries.
 * Defence: reads what is promised of each route, from the plan that runs or from a policy file, and tries to prove it wrong: as everybody, with
 * everything, by `inject` or over a socket. What it finds is typed, told with a command that shows it, and the same for the same seed.
 * Not covered: whether a policy is the right one, unless another is given to hold it to; what a service means by its words.
 */
import { readFile } from 'node:fs/promises'
import type { FastifyInstance } from 'fastify'
import { createError } from '@fastify/error'
import { checkOptions } from '../options.js'
import { Campaign, type Family } from './campaign.js'
import { AttackOptions, type Policy, type Report } from './contract.js'
import { answers } from './families/answers.js'
import { assignment } from './families/assignment.js'
import { authorization } from './families/authorization.js'
import { credentials } from './families/credentials.js'
import { exposure } from './families/exposure.js'
import { framing } from './families/framing.js'
import { input } from './families/input.js'
import { leaks } from './families/leaks.js'
import { limits } from './families/limits.js'
import { mutations } from './families/mutations.js'
import { outbound } from './families/outbound.js'
import { slowness } from './families/slowness.js'
import { traces } from './families/traces.js'
import { uploads } from './families/uploads.js'
import { drawnRoutes, heldTo, surfaceOfPlan, surfaceOfPolicy, withHints, type Surface } from './surface.js'
import { injected, listening, remote } from './target.js'

export { CATALOGUE } from './catalogue.js'
export { AttackOptions } from './contract.js'
export { asJson, asSarif, asTap, asText } from './reporters.js'
export type { FamilyName, FindingId, Kind } from './catalogue.js'
export type { Check, Finding, Made, Objects, ObjectSource, Policy, PolicyAccess, Principal, Principals, PrincipalSource, RefusedPrincipal, Report, RouteHints, RoutePolicy, Severity, UploadPolicy, RecordedEvent, Texts, Witnesses } from './contract.js'

/** An option of the attack kit is wrong, or nothing says what is to be proven. */
export const TestingMisconfigured = createError<[string]>('FST_BASTION_TESTING_MISCONFIGURED', '%s', 500, TypeError)

/** What may break a service that is not as it should be comes late, and limits last: what they spend is gone. */
const FAMILIES: readonly Family[] = [authorization, credentials, assignment, input, mutations, uploads, outbound, exposure, answers, leaks, slowness, framing, traces, limits]
const MADE = ['principals', 'objects', 'values', 'routes', 'refused', 'sign', 'reset', 'policy', 'headers', 'witnesses'] as const

/**
 * Attacks a service and reports what did not hold.
 *
 * @param target an application, which is made ready; or the URL of one that runs elsewhere, which needs a policy
 * @throws TestingMisconfigured for options that are wrong, a route that does not exist, or where nothing says what is promised
 */
export async function attack (target: FastifyInstance | string, options: AttackOptions = {}): Promise<Report> {
  const plain = Object.fromEntries(Object.entries(options).filter(([name]) => !(MADE as readonly string[]).includes(name)))
  checkOptions(AttackOptions, plain, 'testing', TestingMisconfigured)
  const { over = 'inject' } = options
  const app = typeof target === 'string' ? null : target
  await app?.ready()
  const surface = withHints(await surfaceOf(app, options), options.routes ?? {})
  refuseUnknown(surface, options)
  const families = FAMILIES.filter(({ name }) => options.families === undefined || options.families.includes(name))
  const asked = app === null ? remote(target as string) : over === 'socket' ? await listening(app) : injected(app)
  const campaign = new Campaign(options, surface, asked, app, families)
  const started = performance.now()
  try {
    await campaign.lead(families)
  } finally {
    await asked.close()
  }
  return campaign.report(Math.round(performance.now() - started))
}

async function surfaceOf (app: FastifyInstance | null, options: AttackOptions): Promise<Surface> {
  const policy = typeof options.policy === 'string' ? JSON.parse(await readFile(options.policy, 'utf8')) as Policy : options.policy
  const planned = app === null ? null : surfaceOfPlan(app)
  if (policy !== undefined && (typeof policy !== 'object' || typeof policy.routes !== 'object')) throw new TestingMisconfigured('testing: policy: is an object with routes')
  if (planned !== null) return policy === undefined ? planned : heldTo(planned, policy)
  if (policy === undefined) throw new TestingMisconfigured('testing: this application has no route plan: register the suite, or give a policy')
  const surface = surfaceOfPolicy(policy)
  if (app === null) return surface
  const known = new Set(surface.routes.map(({ name }) => name))
  return { ...surface, unlisted: drawnRoutes(app).filter(name => !known.has(name) && !name.startsWith('OPTIONS ')) }
}

/** A hint for a route that is not there protects nobody from a misspelling. */
function refuseUnknown ({ routes }: Surface, { only = [], families = [], routes: hints = {}, principals = {}, objects = {} }: AttackOptions): void {
  const known = new Set(routes.map(({ name }) => name))
  const unknown = [...only, ...Object.keys(hints), ...Object.values(hints).flatMap(({ connects }) => connects ?? [])].find(name => !known.has(name))
  if (unknown !== undefined) throw new TestingMisconfigured(`testing: there is no route ${JSON.stringify(unknown)}`)
  const family = families.find(name => !FAMILIES.some(one => one.name === name))
  if (family !== undefined) throw new TestingMisconfigured(`testing: families: there is no ${JSON.stringify(family)}`)
  for (const [param, owners] of Object.entries(objects)) {
    const stranger = Object.keys(owners).find(name => name !== '*' && !Object.hasOwn(principals, name))
    if (stranger !== undefined) throw new TestingMisconfigured(`testing: objects.${param}: ${JSON.stringify(stranger)} is none of the principals`)
  }
}
