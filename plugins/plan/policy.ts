/** Policies for the routes of plugins that know nothing of them. */
import type { FastifyInstance, RouteOptions } from 'fastify'
import fp from 'fastify-plugin'

const policyOf = Symbol('bastion.instance.policy')

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
      (instance as unknown as Record<symbol, object>)[policyOf] = policy
      await instance.register(plugin as never, options as never)
    })
  }, { fastify: '5.x' })
}

/** The policy under which this instance, or one around it, was registered. */
export function policyFor (instance: FastifyInstance): object | undefined {
  return (instance as unknown as Record<symbol, object | undefined>)[policyOf]
}
