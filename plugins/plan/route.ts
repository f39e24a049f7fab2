/** A route, as the plan knows it, and what it is refused for. */
import type { FastifyInstance, RouteOptions } from 'fastify'
import type { Chain } from './chain.js'
import type { Phase } from './phases.js'

const LIFECYCLE = [
  'onRequest', 'preParsing', 'preValidation', 'preHandler', 'preSerialization', 'onSend', 'onResponse', 'onTimeout', 'onError', 'onRequestAbort',
] as const

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

export class Route implements PlannedRoute {
  readonly controls: Record<string, unknown> = Object.create(null)
  readonly order: string[] = []
  readonly complaints = new Set<string>()
  readonly chains: Record<Phase, Chain | null> = { edge: null, guard: null, parsed: null, resource: null, view: null, sent: null, done: null }
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

/** A guard that is undefined where it should stand is no guard (csrf-protection #131). It is taken out, so that boot goes on to the list of all offenders. */
export function refuseUndefinedHooks (route: Route): void {
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
export function describeOffender ({ method, url, complaints, twinOf }: Route): string[] {
  const own = [...complaints].filter(complaint => twinOf?.complaints.has(complaint) !== true)
  return own.length === 0 ? [] : [`  ${method} ${url}: ${own.join('; ')}`]
}
