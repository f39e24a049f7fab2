/** What the portal counts and measures, for Prometheus: with an access token of an admin, or with an API key whose scope is `metrics:read`. */
import type { Portal } from '../app.js'

export function metricRoutes ({ app }: Portal): void {
  app.get('/metrics', {
    config: { access: { permissions: 'metrics:read' }, answers: 'raw', overload: false },
  }, async (_request, reply) => {
    reply.type(app.metrics.contentType)
    return app.metrics.text()
  })
}
