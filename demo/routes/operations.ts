/** Health, and the limits to try. */
import { Type } from '@sinclair/typebox'
import { createError } from '@fastify/error'
import type { Portal } from '../app.js'

/** Yes or no and nothing more. */
const NotReady = createError('FST_PORTAL_NOT_READY', 'Not ready', 503)
const Status = Type.Object({ status: Type.Literal('ok') }, { additionalProperties: false })
/** What each plan is sold with. */
const PLANS = {
  free: ['60/minute', '1000/day'],
  basic: ['300/minute', '10000/day'],
  pro: ['1000/minute', '100000/day'],
}
/** Milliseconds that the database has to answer. */
const READY_DEADLINE = 2000

export function operationRoutes ({ app, sql }: Portal): void {
  app.get('/health', {
    schema: { response: { 200: Status } },
    config: { access: 'public', limits: false, https: false, overload: false },
  }, async () => ({ status: 'ok' as const }))

  app.get('/health/ready', {
    schema: { response: { 200: Status } },
    config: { access: 'public', limits: false, https: false, overload: false },
  }, async () => {
    // Whoever asks over plain HTTP, or takes any certificate, would not notice that no client does.
    if (!app.certificates.isGood() || !await answers()) throw Object.assign(new NotReady(), { expose: true, headers: { 'retry-after': '5' } })
    return { status: 'ok' as const }
  })

  // To the request: after a burst a window that fades would hold back who comes a second later.
  app.get('/limits/multi', {
    schema: { response: { 200: Status } },
    config: { access: 'public', limits: { windows: ['5/second', '100/minute', '1000/hour'], by: 'address', algorithm: 'log' } },
  }, async () => ({ status: 'ok' as const }))

  app.get('/limits/plan', {
    schema: { response: { 200: Status } },
    config: { access: 'user', limits: { windows: PLANS.free, plans: PLANS } },
  }, async () => ({ status: 'ok' as const }))

  app.get('/limits/bucket', {
    schema: { response: { 200: Status } },
    config: { access: 'public', limits: { windows: ['10/10s'], algorithm: 'bucket', by: 'address' } },
  }, async () => ({ status: 'ok' as const }))

  async function answers (): Promise<boolean> {
    const deadline = AbortSignal.timeout(READY_DEADLINE)
    const late = new Promise<false>(resolve => { deadline.addEventListener('abort', () => resolve(false), { once: true }) })
    return Promise.race([late, Promise.all([sql.query('select 1'), app.state.answers()]).then(([, isThere]) => isThere, () => false)])
  }
}
