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
import { Campaign, type Family } from './campaign.js'
import { checkAttack, checkPolicy, placeOf, refuseUnknown, TestingMisconfigured } from './checking.js'
import type { AttackOptions, Report } from './contract.js'
import { readBy } from './exchange.js'
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
import { heldTo, surfaceOfPlan, surfaceOfPolicy, unlistedOf, withHints, type Surface } from './surface.js'
import { injected, listening, remote } from './target.js'

export { CATALOGUE } from './catalogue.js'
export { TestingMisconfigured } from './checking.js'
export { AttackOptions } from './contract.js'
export { asJson, asSarif, asTap, asText } from './reporters.js'
export type { FamilyName, FindingId, Kind } from './catalogue.js'
export type { Answer, Check, Finding, Made, Objects, ObjectSource, Policy, PolicyAccess, Principal, Principals, PrincipalSource, RefusedPrincipal, RecordedEvent, Report, RouteHints, RoutePolicy, Severity, UploadPolicy, Texts, Witnesses } from './contract.js'

/** What may break a service that is not as it should be comes late, and limits last: what they spend is gone. */
const FAMILIES: readonly Family[] = [authorization, credentials, assignment, input, mutations, uploads, outbound, exposure, answers, leaks, slowness, framing, traces, limits]

/**
 * Attacks a service and reports what did not hold.
 *
 * @param target an application, which is made ready; or the URL of one that runs elsewhere, which needs a policy, and on another machine `destructive` or `safe`
 * @throws TestingMisconfigured for options that are wrong, a route that does not exist, or where nothing says what is promised
 */
export async function attack (target: FastifyInstance | string, options: AttackOptions = {}): Promise<Report> {
  checkAttack(options)
  const { over = 'inject' } = options
  const app = typeof (target as Partial<FastifyInstance> | undefined)?.inject === 'function' ? target as FastifyInstance : null
  const place = app === null ? placeOf(target, options) : null
  await app?.ready()
  const surface = withHints(await surfaceOf(app, options), options.routes ?? {})
  refuseUnknown(surface, options)
  const families = FAMILIES.filter(({ name }) => options.families === undefined || options.families.includes(name))
  const asked = readBy(app === null ? remote(place!) : over === 'socket' ? await listening(app) : injected(app), options.statusOf)
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
  const policy = typeof options.policy === 'string' ? await policyIn(options.policy) : options.policy
  if (policy !== undefined) checkPolicy(policy)
  const planned = app === null ? null : surfaceOfPlan(app)
  if (planned !== null) return policy === undefined ? planned : heldTo(planned, policy)
  if (policy === undefined) throw new TestingMisconfigured('testing: this application has no route plan: register the suite, or give a policy')
  const surface = surfaceOfPolicy(policy)
  if (app === null) return surface
  return { ...surface, unlisted: unlistedOf(app, surface.routes) }
}

async function policyIn (file: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(file, 'utf8'))
  } catch (error) {
    throw new TestingMisconfigured(`testing: policy: ${JSON.stringify(file)} is no file of JSON: ${(error as Error).message}`)
  }
}
