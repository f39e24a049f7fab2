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
import type { IncomingMessage } from 'node:http'
import type { FastifyInstance, FastifyReply, FastifyRequest, HookHandlerDoneFunction, RouteOptions } from 'fastify'
import { createError } from '@fastify/error'
import fp from 'fastify-plugin'
import { compileChain, type Chain, type Step } from './chain.js'

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

/**
 * The order of the stages is the order in which a request passes them.
 * `edge` and `guard` are `onRequest`; between the two, plugins with hooks of their own (CORS preflights) find their place.
 */
const PHASES = {
  edge: ['headers', 'transport', 'flood', 'cors'],
  guard: ['identify', 'limit', 'authorize', 'csrf'],
  resource: ['resource'],
  view: ['view'],
  sent: ['expose'],
  done: ['record'],
} as const
const HOOKS = {
  edge: 'onRequest', guard: 'onRequest', resource: 'preHandler', view: 'preSerialization', sent: 'onSend', done: 'onResponse',
} as const
const LIFECYCLE = [
  'onRequest', 'preParsing', 'preValidation', 'preHandler', 'preSerialization', 'onSend', 'onResponse', 'onTimeout', 'onError', 'onRequestAbort',
] as const
/** Where requests go that the router could not read. Asked for from outside it is an unknown route like any other. */
const UNREADABLE = '/.bastion/unreadable'

export type Phase = keyof typeof PHASES
export type Stage = typeof PHASES[Phase][number]
export type { Step }

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
  /** `false`: the step runs only where another concern opens its phase, so that it does not come before CORS (default `true`). */
  opens?: boolean
  /** Called as a route is declared: may complete its options, and objects through {@link PlannedRoute.object}. */
  declare?: (route: PlannedRoute) => void
  /** Called once a route at boot, when all are known: objects (or throws an error of the suite), or returns the step. */
  compile?: (route: PlannedRoute) => Contribution | undefined | Promise<Contribution | undefined>
}

/** A route, as the plan knows it. */
export interface PlannedRoute {
  /** `GET`; several methods of one declaration are joined by a comma; `*` for the answer to unknown routes. */
  readonly method: string
  readonly url: string
  /** `head`: the HEAD of a GET. `not-found`: whatever matches no route. */
  readonly kind: 'route' | 'head' | 'not-found'
  /** The GET whose HEAD this is: what is counted for one counts for the other. */
  readonly twinOf: PlannedRoute | null
  /** The route's options, as Fastify will use them. */
  readonly options: RouteOptions
  /** The instance on which it was declared. */
  readonly instance: FastifyInstance
  /** The promise of each concern, by its name. */
  readonly controls: Record<string, unknown>
  /** The steps in the order in which they run, as `stage:concern`. */
  readonly order: readonly string[]
  /** Refuses this route at boot: what is missing, and the line to add. */
  object: (complaint: string) => void
}

/** The instance decorator `app.plan`. */
export interface Plan {
  /** Adds a concern. The hook of its phase is installed at the first contribution to that phase. */
  contribute: (contributor: Contributor) => void
  /** True once a hook of that phase is installed: what must come before it is too late then. */
  isOpen: (phase: Phase) => boolean
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
const policyOf = Symbol('bastion.instance.policy')
const refusals = new WeakMap<IncomingMessage, Error>()

class Route implements PlannedRoute {
  readonly controls: Record<string, unknown> = Object.create(null)
  readonly order: string[] = []
  readonly complaints = new Set<string>()
  readonly chains: Record<Phase, Chain | null> = { edge: null, guard: null, resource: null, view: null, sent: null, done: null }
  readonly method: string
  readonly url: string
  readonly kind: PlannedRoute['kind']
  readonly twinOf: Route | null
  readonly options: RouteOptions
  readonly instance: FastifyInstance

  constructor (method: string, kind: PlannedRoute['kind'], twinOf: Route | null, options: RouteOptions, instance: FastifyInstance) {
    this.method = method
    this.url = options.url
    this.kind = kind
    this.twinOf = twinOf
    this.options = options
    this.instance = instance
  }

  object (complaint: string): void { this.complaints.add(complaint) }
}

/**
 * Gives every route that `plugin` declares a policy at registration: for plugins that bring routes of their own
 * (documentation, static files) and cannot write `config.access` themselves. What a route says itself wins.
 * What the plugin decorates stays inside it.
 *
 * @example app.register(withPolicy({ access: 'public', answers: 'raw' }, swaggerUi), { routePrefix: '/docs' })
 */
export function withPolicy<Options extends object> (
  policy: RouteOptions['config'] & object,
  plugin: (instance: FastifyInstance, options: Options, done: (error?: Error) => void) => unknown
) {
  // Transparent itself, so that a prefix is applied once, by whichever way the plugin takes it.
  return fp(async function policed (app: FastifyInstance, options: Options): Promise<void> {
    await app.register(async function policedRoutes (instance) {
      (instance as unknown as Record<symbol, unknown>)[policyOf] = policy
      await instance.register(plugin as never, options as never)
    })
  }, { fastify: '5.x' })
}

/**
 * Refuses a request that no route can be looked up for: it is answered as an unknown route is, with headers, limits,
 * event and log, but by `error`. The caller then hands it to `app.routing()`.
 */
export function refuseBeforeRouting (raw: IncomingMessage, error: Error): void {
  refusals.set(raw, error)
  Object.assign(raw, { originalUrl: raw.url, url: UNREADABLE })
}

async function plan (app: FastifyInstance): Promise<void> {
  if (app.hasDecorator('plan')) throw new PlanTwice()
  const early = app.printRoutes({ commonPrefix: false })
  if (!early.startsWith('(empty tree)')) throw new PlanTooLate(early.replace(/[└├│─\s]+/g, ' ').trim())

  const contributors: Contributor[] = []
  const routes: Route[] = []
  const gets = new Map<string, Route>()
  const open = new Set<Phase>()
  const notFound = new Route('*', 'not-found', null, { method: 'GET', url: '*', handler: () => {}, config: { access: 'public' } as never }, app)
  let opening: Chain | null = null

  app.decorate('plan', {
    routes,
    notFound,
    isOpen: phase => open.has(phase),
    contribute (contributor) {
      contributors.push(contributor)
      if (contributor.stage !== undefined && contributor.opens !== false) openPhase(phaseOf(contributor.stage))
      for (const route of [notFound, ...routes]) contributor.declare?.(route)
    },
    refusalOf: request => refusals.get(request.raw) ?? null,
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
    const refusal = refusals.get(request.raw)
    if (refusal !== undefined) throw refusal
    reply.callNotFound()
  }

  function declareRoute (instance: FastifyInstance, options: RouteOptions): void {
    const methods = [options.method].flat()
    // Below a prefix `/` is declared twice, with and without the slash, and only the first GET is announced.
    const twinOf = methods.join() === 'HEAD' ? gets.get(options.url) ?? gets.get(options.url.replace(/\/$/, '')) ?? null : null
    const route = new Route(methods.join(','), twinOf === null ? 'route' : 'head', twinOf, options, instance)
    if (methods.includes('GET')) gets.set(options.url, route)
    const policy = (instance as unknown as Record<symbol, object | undefined>)[policyOf]
    options.config = { ...policy, ...options.config, [inConfig]: route } as never
    refuseUndefinedHooks(route)
    for (const contributor of contributors) contributor.declare?.(route)
    routes.push(route)
  }

  function openPhase (phase: Phase): void {
    if (open.has(phase)) return
    open.add(phase)
    if (phase === 'edge') return
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
    const route = config[inConfig] ?? notFound
    request[planned] = route
    // A route without a plan is one that was declared where the plan could not see it: nobody said who may call it.
    const unknown = route === notFound && config.url !== undefined && config.url !== UNREADABLE
    const next = unknown ? () => done(new PlanUnknown(`${request.method} ${config.url}`)) : done
    const chain = route.chains.edge
    if (chain === null) next()
    else chain(request, reply, undefined, next)
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
        if (!open.has(phase)) continue
        const steps = PHASES[phase].flatMap(stage => staged.get(stage) ?? [])
        route.order.push(...steps.map(({ name }) => name))
        route.chains[phase] = compileChain(steps.map(({ step }) => step))
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

/** A guard that is undefined where it should stand is no guard (csrf-protection #131). It is taken out, so that boot goes on to the list of all offenders. */
function refuseUndefinedHooks (route: Route): void {
  const options = route.options as unknown as Record<string, unknown>
  for (const name of LIFECYCLE) {
    if (!Object.hasOwn(options, name)) continue
    const hooks = [options[name]].flat()
    const present = hooks.filter(hook => hook !== undefined && hook !== null)
    if (present.length === hooks.length) continue
    options[name] = present
    route.object(`${name} is undefined, so what it should guard is open: load the plugin that makes it before this route is declared`)
  }
}

/** The line of a refused route; none for a HEAD whose GET says all of it. */
function describeOffender ({ method, url, complaints, twinOf }: Route): string[] {
  const own = [...complaints].filter(complaint => twinOf?.complaints.has(complaint) !== true)
  return own.length === 0 ? [] : [`  ${method} ${url}: ${own.join('; ')}`]
}

function phaseOf (stage: Stage): Phase {
  return (Object.keys(PHASES) as Phase[]).find(phase => (PHASES[phase] as readonly string[]).includes(stage))!
}

export default fp(plan, { fastify: '5.x', name: 'bastion-plan' })
