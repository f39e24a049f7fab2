/**
 * The route plan: what guards each route, in which order, compiled once.
 *
 * Threat: controls that are wired by hand run in the order of luck, miss the routes that were declared
 * too early, and drift from what the documentation says of them.
 * Defence: every concern contributes its step for a route to one plan. The plan is compiled when the
 * application becomes ready, is what really runs, and is what posture and the attack kit read. A route that a
 * concern objects to does not boot: `ready()` rejects with one error that lists every offender. A route that the
 * plan never saw is refused at run time.
 * Not covered: a service's own hooks. They stay ordinary Fastify hooks; those registered after the suite run after it.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest, HookHandlerDoneFunction, RouteOptions } from 'fastify'
import { createError } from '@fastify/error'
import fp from 'fastify-plugin'
import { compileChain, type Chain, type Step } from './chain.js'
import { HOOKS, PHASES, phaseOf, type Phase, type Stage } from './phases.js'
import { policyFor } from './policy.js'
import { describeOffender, refuseUndefinedHooks, Route, type PlannedRoute } from './route.js'
import { refusalOf, UNREADABLE } from './unreadable.js'

export { withPolicy } from './policy.js'
export { refuseBeforeRouting } from './unreadable.js'
export type { Step } from './chain.js'
export type { Phase, Stage } from './phases.js'
export type { PlannedRoute } from './route.js'

declare module 'fastify' {
  interface FastifyInstance {
    /** The route plan: concerns contribute to it, reports read it. */
    plan: Plan
  }
  interface FastifyRequest {
    /** The plan of the matched route; that of the 404 answer where none matched. Null where an older hook refused first. */
    [planned]: PlannedRoute | null
  }
}

/** The application does not boot; the message lists each offending route with the line to add. */
export const PlanRefused = createError<[string]>('FST_BASTION_PLAN_REFUSED', '%s', 500, TypeError)
/** The suite is registered twice. */
export const PlanTwice = createError('FST_BASTION_PLAN_TWICE', 'The route plan is loaded already: register the suite once, on the root', 500, TypeError)
/** A route was declared before the suite was loaded, so none of its hooks would run for it. */
export const PlanTooLate = createError<[string]>('FST_BASTION_PLAN_TOO_LATE',
  'These routes were declared before the route plan was loaded and would be open: %s. ' +
  'Write `await app.register(bastion, …)` first, or declare the routes inside a plugin that is registered after it.', 500, TypeError)
/** A request reached a route that the plan never saw; its handler does not run. */
export const PlanUnknown = createError<[string]>('FST_BASTION_PLAN_UNKNOWN',
  '%s is not in the route plan: the plugin that declares it was registered before the suite', 500, TypeError)

/** What a concern says of one route: the step that runs (none where it has nothing to do) and what it promises. */
export interface Contribution {
  step?: Step
  /** Plain data for people and machines: posture, OpenAPI, the attack kit. */
  promise?: unknown
}

/** A concern as the plan sees it. */
export interface Contributor {
  /** The concern's name: the key of its promise in {@link PlannedRoute.controls}. */
  concern: string
  /** Where in the way of a request its step stands; concerns without a step (schemas only) leave it out. */
  stage?: Stage
  /** Of stage `record`: the routes that have a step, as they are declared (default: all). A route that has none then pays for no hook. */
  touches?: (route: PlannedRoute) => boolean
  /** Called as a route is declared: may complete its options, and objects through {@link PlannedRoute.object}. */
  declare?: (route: PlannedRoute) => void
  /** Called once a route at boot, when all are known: objects (or throws an error of the suite), or returns the step. */
  compile?: (route: PlannedRoute) => Contribution | undefined | Promise<Contribution | undefined>
}

/** The instance decorator `app.plan`. */
export interface Plan {
  /** Adds a concern. The hook of its phase is installed at the first contribution to that phase. */
  contribute: (contributor: Contributor) => void
  /** Every route, complete after `ready()`. */
  readonly routes: readonly PlannedRoute[]
  /** The plan of the answer to unknown routes. */
  readonly notFound: PlannedRoute
  /** Why a request was refused before any route was looked for; null for all others. */
  refusalOf: (request: FastifyRequest) => Error | null
  /** Gives a request that failed in a hook older than the suite its plan and its headers. */
  enterLate: (request: FastifyRequest, reply: FastifyReply) => void
}

export const planned = Symbol('bastion.request.plan')
const inConfig = Symbol('bastion.route.plan')
/** Run by the hook of the plan itself. */
const ENTRY = ['edge', 'guard'] as const

async function plan (app: FastifyInstance): Promise<void> {
  if (app.hasDecorator('plan')) throw new PlanTwice()
  const early = app.printRoutes({ commonPrefix: false })
  if (!early.startsWith('(empty tree)')) throw new PlanTooLate(early.replace(/[└├│─\s]+/g, ' ').trim())

  const contributors: Contributor[] = []
  const routes: Route[] = []
  const gets = new Map<string, Route>()
  const open = new Set<Phase>(ENTRY)
  const notFound = new Route('*', 'not-found', null, { method: 'GET', url: '*', handler: () => {}, config: { access: 'public' } as never }, app)
  /** Of what has no plan: its headers, and what stands before anybody is asked who he is. */
  let opening: Chain | null = null
  let edge: Chain | null = null

  app.decorate('plan', {
    routes,
    notFound,
    contribute (contributor) {
      contributors.push(contributor)
      if (contributor.stage !== undefined && contributor.touches === undefined) openPhase(phaseOf(contributor.stage))
      for (const route of [notFound, ...routes]) contributor.declare?.(route)
    },
    refusalOf: request => refusalOf(request.raw),
    enterLate (request, reply) {
      request[planned] = notFound
      opening?.(request, reply, undefined, () => {})
    },
  })
  app.decorateRequest(planned as never, null as never)
  app.route({
    method: app.supportedMethods as never,
    url: UNREADABLE,
    schema: { hide: true } as never,
    config: { [inConfig]: notFound } as never,
    errorHandler: (error, request, reply) => app.errorHandler(error, request, reply), // the one that is set later
    handler: refuseUnreadable,
  })
  app.addHook('onRoute', function planRoute (options) { declareRoute(this, options) })
  app.addHook('onRequest', enterRoute)
  app.addHook('onReady', compileAll)

  function refuseUnreadable (request: FastifyRequest, reply: FastifyReply): void {
    const refusal = refusalOf(request.raw)
    if (refusal !== null) throw refusal
    reply.callNotFound()
  }

  function declareRoute (instance: FastifyInstance, options: RouteOptions): void {
    const methods = [options.method].flat()
    // Below a prefix `/` is declared twice, with and without the slash, and only the first GET is announced.
    const twinOf = methods.join() === 'HEAD' ? gets.get(options.url) ?? gets.get(options.url.replace(/\/$/, '')) ?? null : null
    const route = new Route(methods.join(','), twinOf === null ? 'route' : 'head', twinOf, options, instance)
    if (methods.includes('GET')) gets.set(options.url, route)
    options.config = { ...policyFor(instance), ...options.config, [inConfig]: route } as never
    refuseUndefinedHooks(route)
    for (const contributor of contributors) contributor.declare?.(route)
    if (contributors.some(({ touches }) => touches?.(route) === true)) openRecord(options)
    routes.push(route)
  }

  /** The options of a HEAD are those of its GET. */
  function openRecord (options: RouteOptions): void {
    const own = [options.onResponse ?? []].flat()
    if (!own.includes(runRecord)) options.onResponse = [runRecord, ...own]
  }

  function runRecord (request: FastifyRequest, reply: FastifyReply, done: HookHandlerDoneFunction): void {
    const chain = open.has('done') ? null : (request[planned] as Route).chains.done
    if (chain === null) done()
    else chain(request, reply, undefined, done)
  }

  function openPhase (phase: Phase): void {
    if (open.has(phase)) return
    open.add(phase)
    const runPhase = phase === 'view' || phase === 'sent'
      ? function runPhaseWithPayload (request: FastifyRequest, reply: FastifyReply, payload: unknown, done: HookHandlerDoneFunction) {
        const chain = (request[planned] as Route).chains[phase]
        if (chain === null) done()
        else chain(request, reply, payload, done)
      }
      : function runPhaseOfRoute (request: FastifyRequest, reply: FastifyReply, done: HookHandlerDoneFunction) {
        const chain = (request[planned] as Route).chains[phase]
        if (chain === null) done()
        else chain(request, reply, undefined, done)
      }
    app.addHook(HOOKS[phase] as 'onRequest', runPhase as never)
  }

  function enterRoute (request: FastifyRequest, reply: FastifyReply, done: HookHandlerDoneFunction): void {
    const config = request.routeOptions.config as unknown as { [inConfig]?: Route, url?: string }
    const route = config[inConfig]
    if (route === undefined) enterUnknown(request, reply, config.url, done)
    else {
      request[planned] = route
      const chain = route.chains.edge
      if (chain === null) done(new PlanUnknown(`${request.method} ${route.url}`)) // before boot nothing is guarded
      else chain(request, reply, undefined, done)
    }
  }

  function enterUnknown (request: FastifyRequest, reply: FastifyReply, url: string | undefined, done: HookHandlerDoneFunction): void {
    request[planned] = notFound
    // A route without a plan is one that was declared where the plan could not see it: nobody said who may call it.
    if (url === undefined || url === UNREADABLE) notFound.chains.edge!(request, reply, undefined, done)
    else if (edge === null) done(new PlanUnknown(`${request.method} ${url}`))
    else edge(request, reply, undefined, error => { done(error ?? new PlanUnknown(`${request.method} ${url}`)) })
  }

  async function compileAll (): Promise<void> {
    for (const route of [...routes, notFound]) {
      if (route !== notFound && (route.options.config as { [inConfig]?: Route } | undefined)?.[inConfig] !== route) {
        route.object('an onRoute hook replaced its config: write options.config = { ...options.config, … }')
      }
      const staged = new Map<Stage, { name: string, step: Step }[]>()
      for (const contributor of contributors) {
        const { concern, stage } = contributor
        const { step, promise } = await contributionOf(contributor, route)
        if (promise !== undefined) route.controls[concern] = promise
        if (step === undefined || stage === undefined) continue
        const steps = staged.get(stage) ?? []
        staged.set(stage, [...steps, { name: `${stage}:${concern}`, step }])
      }
      for (const phase of Object.keys(PHASES) as Phase[]) {
        const steps = PHASES[phase].flatMap(stage => staged.get(stage) ?? [])
        route.order.push(...steps.map(({ name }) => name))
        route.chains[phase] = compileChain(steps.map(({ step }) => step), phase === 'edge' ? () => route.chains.guard : undefined)
        if (route === notFound && phase === 'edge') edge = compileChain(steps.map(({ step }) => step))
      }
      if (route === notFound) opening = compileChain((staged.get('headers') ?? []).map(({ step }) => step))
    }
    const lines = [...new Set([...routes, notFound].flatMap(describeOffender))]
    if (lines.length > 0) throw new PlanRefused(`${lines.length} ${lines.length === 1 ? 'route does' : 'routes do'} not boot:\n${lines.join('\n')}`)
  }
}

/** What a concern contributes to a route; a misconfiguration that it throws is an objection to that route. */
async function contributionOf ({ compile }: Contributor, route: Route): Promise<Contribution> {
  try {
    return await compile?.(route) ?? {}
  } catch (error) {
    if (!String((error as { code?: string }).code).startsWith('FST_BASTION_')) throw error
    route.object((error as Error).message)
    return {}
  }
}

export default fp(plan, { fastify: '5.x', name: 'bastion-plan' })
