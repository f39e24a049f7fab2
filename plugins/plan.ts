/**
 * The route plan: what guards each route, in which order, compiled once.
 *
 * Threat: controls that are wired by hand run in the order of luck, miss the routes that were declared
 * too early, and drift from what the documentation says of them.
 * Defence: every concern contributes its step for a route to one plan. The plan is compiled when the
 * application becomes ready, is what really runs, and is what posture and the attack kit read. A route that a
 * concern objects to does not boot: `ready()` rejects with one error that lists every offender.
 * Not covered: a service's own hooks. They stay ordinary Fastify hooks and run after those of the plan.
 */
import type {
  FastifyInstance, FastifyReply, FastifyRequest, HookHandlerDoneFunction, RouteOptions,
} from 'fastify'
import createError from '@fastify/error'
import fp from 'fastify-plugin'

declare module 'fastify' {
  interface FastifyInstance {
    /** The route plan: concerns contribute to it, reports read it. */
    plan: Plan
  }
  interface FastifyRequest {
    /** The plan of the matched route; that of the 404 answer where none matched. */
    [planned]: PlannedRoute | null
  }
}

/** The application does not boot; the message lists each offending route with the line to add. */
export const PlanRefused = createError<[string]>('FST_BASTION_PLAN_REFUSED', '%s', 500, TypeError)
/** A route was declared before the suite was loaded, so none of its hooks would run for it. */
export const PlanTooLate = createError<[string]>('FST_BASTION_PLAN_TOO_LATE',
  'These routes were declared before the route plan was loaded and would be open: %s. ' +
  'Write `await app.register(bastion, …)` first, or declare the routes inside a plugin that is registered after it.', 500, TypeError)

/**
 * The order of the stages is the order in which a request passes them.
 * `edge` and `guard` are `onRequest`; between the two, plugins with hooks of their own (CORS) find their place.
 */
const PHASES = {
  edge: ['headers', 'transport', 'flood'],
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

export type Phase = keyof typeof PHASES
export type Stage = typeof PHASES[Phase][number]

/** One step of a route: returns nothing, or a promise where it truly waits. It denies by throwing. */
export type Step = (request: FastifyRequest, reply: FastifyReply, payload?: unknown) => void | Promise<void>

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
  /** Called as a route is declared: may complete its options, and objects through {@link PlannedRoute.object}. */
  declare?: (route: PlannedRoute) => void
  /** Called once a route at boot, when all are known: objects, or returns the step. */
  compile?: (route: PlannedRoute) => Contribution | undefined | Promise<Contribution | undefined>
}

/** A route, as the plan knows it. */
export interface PlannedRoute {
  /** `GET`; several methods of one declaration are joined by a comma; `*` for the answer to unknown routes. */
  readonly method: string
  readonly url: string
  /** `head`: the twin that Fastify adds to a GET. `not-found`: whatever matches no route. */
  readonly kind: 'route' | 'head' | 'not-found'
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
  /** Runs the steps of a phase for a request that no hook sees (malformed URL, over-long parameter). Throws where a step denies. */
  runUnrouted: (phase: 'edge' | 'guard', request: FastifyRequest, reply: FastifyReply) => void
}

type Chain = (request: FastifyRequest, reply: FastifyReply, payload: unknown, done: (error?: Error) => void) => void

export const planned = Symbol('bastion.request.plan')
const inConfig = Symbol('bastion.route.plan')
const policyOf = Symbol('bastion.instance.policy')

class Route implements PlannedRoute {
  readonly controls: Record<string, unknown> = Object.create(null)
  readonly order: string[] = []
  readonly complaints = new Set<string>()
  readonly steps: Record<Phase, Step[]> = { edge: [], guard: [], resource: [], view: [], sent: [], done: [] }
  readonly chains: Record<Phase, Chain | null> = { edge: null, guard: null, resource: null, view: null, sent: null, done: null }
  readonly method: string
  readonly url: string
  readonly kind: PlannedRoute['kind']
  readonly options: RouteOptions
  readonly instance: FastifyInstance

  constructor (method: string, url: string, kind: PlannedRoute['kind'], options: RouteOptions, instance: FastifyInstance) {
    this.method = method
    this.url = url
    this.kind = kind
    this.options = options
    this.instance = instance
  }

  object (complaint: string): void { this.complaints.add(complaint) }
}

/**
 * Gives every route that `plugin` declares a policy at registration: for plugins that bring routes of their own
 * (documentation, static files) and cannot write `config.access` themselves. What a route says itself wins.
 *
 * @example app.register(withPolicy({ access: 'public' }, swaggerUi), { routePrefix: '/docs' })
 */
export function withPolicy<Options extends object> (
  policy: RouteOptions['config'] & object,
  plugin: (instance: FastifyInstance, options: Options, done: (error?: Error) => void) => unknown
) {
  return async function policed (instance: FastifyInstance, options: Options): Promise<void> {
    (instance as unknown as Record<symbol, unknown>)[policyOf] = policy
    await instance.register(plugin as never, options as never)
  }
}

async function plan (app: FastifyInstance): Promise<void> {
  const early = app.printRoutes({ commonPrefix: false })
  if (!early.startsWith('(empty tree)')) throw new PlanTooLate(early.replace(/[└├│─\s]+/g, ' ').trim())

  const contributors: Contributor[] = []
  const routes: Route[] = []
  const open = new Set<Phase>()
  const notFound = new Route('*', '*', 'not-found', {
    method: 'GET', url: '*', handler: () => {}, config: { access: 'public' } as never,
  }, app)

  app.decorate('plan', {
    routes,
    notFound,
    isOpen: phase => open.has(phase),
    contribute (contributor) {
      contributors.push(contributor)
      if (contributor.stage !== undefined) openPhase(phaseOf(contributor.stage))
      contributor.declare?.(notFound)
    },
    runUnrouted (phase, request, reply) {
      for (const step of notFound.steps[phase]) {
        // Nobody waits here: a promise that rejects after the refusal was sent must not end the process.
        const pending = step(request, reply)
        if (pending !== undefined) pending.catch(error => request.log.debug({ err: error }, 'unrouted step'))
      }
    },
  })
  app.decorateRequest(planned as never, null as never)
  app.addHook('onRoute', function planRoute (options) { declareRoute(this, options) })
  app.addHook('onRequest', enterRoute)
  app.addHook('onReady', compileAll)

  function declareRoute (instance: FastifyInstance, options: RouteOptions): void {
    const methods = Array.isArray(options.method) ? options.method : [options.method]
    const isTwin = methods.length === 1 && methods[0] === 'HEAD' && routes.some(r => r.url === options.url && r.method === 'GET')
    const route = new Route(methods.join(','), options.url, isTwin ? 'head' : 'route', options, instance)
    const policy = (instance as unknown as Record<symbol, object | undefined>)[policyOf]
    options.config = { ...policy, ...options.config, [inConfig]: route } as never
    for (const name of LIFECYCLE) {
      const hooks = options[name as keyof RouteOptions] as unknown
      if (Object.hasOwn(options, name) && (hooks === undefined || (Array.isArray(hooks) && hooks.includes(undefined)))) {
        route.object(`${name} is undefined, so what it should guard is open: load the plugin that makes it before this route is declared`)
      }
    }
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
    const config = request.routeOptions.config as unknown as Record<symbol, Route | undefined> | undefined
    const route = config?.[inConfig] ?? notFound
    request[planned] = route
    const chain = route.chains.edge
    if (chain === null) done()
    else chain(request, reply, undefined, done)
  }

  async function compileAll (): Promise<void> {
    for (const route of [...routes, notFound]) {
      const staged = new Map<Stage, { concern: string, step: Step }[]>()
      for (const { concern, stage, compile } of contributors) {
        const contribution = await compile?.(route)
        if (contribution === undefined) continue
        if (contribution.promise !== undefined) route.controls[concern] = contribution.promise
        if (contribution.step === undefined || stage === undefined) continue
        const steps = staged.get(stage) ?? []
        steps.push({ concern, step: contribution.step })
        staged.set(stage, steps)
      }
      for (const phase of Object.keys(PHASES) as Phase[]) {
        for (const stage of PHASES[phase]) {
          for (const { concern, step } of staged.get(stage) ?? []) {
            route.steps[phase].push(step)
            route.order.push(`${stage}:${concern}`)
          }
        }
        route.chains[phase] = compileChain(route.steps[phase])
      }
    }
    const offenders = routes.filter(route => route.complaints.size > 0)
    if (offenders.length === 0) return
    const lines = offenders.map(route => `  ${route.method} ${route.url}: ${[...route.complaints].join('; ')}`)
    throw new PlanRefused(`${offenders.length} ${offenders.length === 1 ? 'route does' : 'routes do'} not boot:\n${[...new Set(lines)].join('\n')}`)
  }
}

/** One function that runs the steps one after the other and waits only where a step really returned a promise. */
function compileChain (steps: readonly Step[]): Chain | null {
  if (steps.length === 0) return null
  function resume (from: number, request: FastifyRequest, reply: FastifyReply, payload: unknown, done: (error?: Error) => void): void {
    for (let i = from; i < steps.length; i++) {
      let pending
      try {
        pending = steps[i]!(request, reply, payload)
      } catch (error) {
        done(error as Error)
        return
      }
      if (pending !== undefined) {
        pending.then(() => resume(i + 1, request, reply, payload, done), done)
        return
      }
    }
    done()
  }
  return (request, reply, payload, done) => resume(0, request, reply, payload, done)
}

function phaseOf (stage: Stage): Phase {
  return (Object.keys(PHASES) as Phase[]).find(phase => (PHASES[phase] as readonly string[]).includes(stage))!
}

export default fp(plan, { fastify: '5.x', name: 'bastion-plan' })
