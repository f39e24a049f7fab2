/**
 * The attack lab: runs attacks against an unguarded twin and against a portal like this one, both of them started for it on ports of their own.
 * Nothing of it goes against the portal that answers here. Outside of production alone.
 */
import { STATUS_CODES } from 'node:http'
import { createError } from '@fastify/error'
import { Type, type Static } from '@sinclair/typebox'
import { NotFound } from '../../plugins/errors.js'
import { closed, noBody, page } from '../../schemas/index.js'
import type { Portal } from '../app.js'
import { RISKS, type Exchange } from '../lab/attack.js'
import { LabFull, openLab } from '../lab/lab.js'
import { attacks, isShown, type Result } from '../lab/range.js'

const Text = Type.String()
const AttackShape = closed({
  name: Text,
  title: Text,
  risk: Type.String({ description: 'Of the OWASP API Security Top 10, 2023' }),
  riskName: Text,
  cwe: Type.Integer(),
  concern: Type.String({ description: 'Of the suite: what stands in the way' }),
  story: Text,
  defence: Text,
})
const ExchangeShape = closed({ step: Text, status: Type.Integer(), ms: Type.Number(), request: Text, response: Text })
const Side = closed({
  verdict: Type.Union([Type.Literal('succeeded'), Type.Literal('refused'), Type.Literal('unclear')]),
  evidence: Text,
  ms: Type.Number(),
  decisive: Type.Integer({ description: 'Place of the exchange that decides; -1: there is none' }),
  left: Type.Integer({ description: 'Exchanges that were left out, in the middle' }),
  exchanges: Type.Array(ExchangeShape),
})
const DuelShape = closed({ name: Text, shown: Type.Boolean({ description: 'It succeeds on the twin and is refused by the portal' }), twin: Side, portal: Side })

const LabBusy = createError('FST_PORTAL_LAB_BUSY', 'Others run attacks here: try again in a moment', 409)
/** Characters that are shown of a body. */
const SHOWN = 4000

export function labRoutes ({ app, now }: Portal): void {
  const lab = openLab(now)
  // Before requests in flight are waited for: one of them may be an attack.
  app.addHook('preClose', async () => { await lab.close() })

  app.get('/lab/attacks', {
    schema: { response: { 200: page(AttackShape) } },
    config: { access: { roles: 'admin' } },
  }, async () => {
    const items = [...await attacks()].map(([name, { title, risk, cwe, concern, story, defence }]) => ({ name, title, risk, riskName: RISKS[risk], cwe, concern, story, defence }))
    const order = Object.keys(RISKS)
    return { items: items.sort((a, b) => order.indexOf(a.risk) - order.indexOf(b.risk) || a.title.localeCompare(b.title)), nextCursor: null }
  })

  app.post('/lab/attacks/:name', {
    schema: { params: closed({ name: Type.String({ pattern: '^[a-z0-9-]{1,64}$' }) }), body: noBody, response: { 200: DuelShape } },
    config: { access: { roles: 'admin' }, limits: { windows: ['120/minute'] } },
  }, async ({ params: { name } }) => {
    if (!(await attacks()).has(name)) throw new NotFound()
    try {
      const duel = await lab.run(name)
      return { name, shown: isShown(duel), twin: shownOf(duel.twin), portal: shownOf(duel.portal) }
    } catch (error) {
      throw error instanceof LabFull ? new LabBusy() : error
    }
  })
}

function shownOf ({ verdict, evidence, ms, decisive, left, exchanges }: Result): Static<typeof Side> {
  return { verdict, evidence, ms: Math.round(ms), decisive, left, exchanges: exchanges.map(written) }
}

/** As it went over the line, but for what is too long to be read. */
function written ({ step, method, path, requestHeaders, requestBody, status, headers, text, ms }: Exchange): Static<typeof ExchangeShape> {
  return {
    step,
    status,
    ms: Math.round(ms),
    request: readable(`${method} ${path} HTTP/1.1`, requestHeaders, Buffer.from(requestBody, 'latin1').toString()),
    response: readable(`HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}`, headers, text),
  }
}

function readable (first: string, headers: Exchange['headers'], body: string): string {
  const lines = Object.entries(headers).flatMap(([name, values]) => [values ?? []].flat().map(value => `${name}: ${value}`))
  const more = body.length > SHOWN ? `\n… and ${body.length - SHOWN} characters more` : ''
  return `${[first, ...lines].map(line => line.slice(0, SHOWN)).join('\n')}${body === '' ? '' : `\n\n${body.slice(0, SHOWN)}${more}`}`.replace(/\r\n/g, '\n').replace(/[^\P{Cc}\n\t]/gu, '\uFFFD')
}
