/** The documentation of the portal's API, for those who build on it: in development alone. */
import type { FastifyInstance, FastifyReply, FastifyRequest, RouteOptions } from 'fastify'
import { withPolicy } from '../../plugins/index.js'

/** No markup is made of texts: they are shown as they are, for what makes markup may not run under the policy of pages. */
const plainTexts = {
  components: {
    Markdown: ({ source }: { source?: string }) => source ?? '',
  },
}

/** Swagger UI at `/docs`, the document at `/docs/json`. */
export async function documentation (app: FastifyInstance): Promise<void> {
  const { default: swaggerUi } = await import('@fastify/swagger-ui')
  const asPage = withPolicy({ access: 'public', answers: 'raw', headers: { contentSecurityPolicy: 'page' } }, async function pages (instance: FastifyInstance) {
    instance.addHook('onRoute', leaveErrorsToTheSuite)
    instance.addHook('onSend', giveNonce)
    await instance.register(swaggerUi, { routePrefix: '/docs', logo: null as never, uiConfig: { layout: 'BaseLayout', showExtensions: true, plugins: [plainTexts] as never } })
  })
  await app.register(asPage)
}

/** @fastify/static would answer its own. */
function leaveErrorsToTheSuite (options: RouteOptions): void {
  delete options.errorHandler
}

/** The scripts of the page run by its nonce. */
async function giveNonce (_request: FastifyRequest, reply: FastifyReply, payload: unknown): Promise<unknown> {
  const isPage = typeof payload === 'string' && String(reply.getHeader('content-type')).startsWith('text/html')
  return isPage ? payload.replaceAll('<script ', `<script nonce="${reply.scriptNonce}" `) : payload
}
