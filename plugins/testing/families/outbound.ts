/**
 * URLs that lead inside: the kit listens on this machine for as long as it runs and gives out URLs that lead to it, in spellings that a look at their text does not see through. What
 * the service connects to is seen there. A redirect is not tried: its first station would have to be a public one.
 */
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as pause } from 'node:timers/promises'
import type { Campaign, Family } from '../campaign.js'
import { expressionOf, propertiesOf, typesOf } from '../schemas.js'
import type { Schema } from '../../references.js'
import type { Route } from '../surface.js'

const URL_FORMATS: ReadonlySet<unknown> = new Set(['uri', 'url', 'iri', 'uri-reference'])
const HOSTS = ['127.0.0.1', 'localhost', 'localhost.', 'LOCALHOST', '127.1', '2130706433', '0x7f000001', '0177.0.0.1', '127.0.0.1.', '0.0.0.0', '[::1]', '[::ffff:127.0.0.1]', '[::ffff:7f00:1]', 'user@127.0.0.1']
/** Milliseconds after an answer in which the service may connect. */
const LATER_MS = 100

interface Listener {
  port: number
  /** Paths that were asked for. */
  reached: ReadonlySet<string>
  close: () => Promise<void>
}

export const outbound: Family = {
  name: 'outbound',
  async lead (campaign) {
    const taking = campaign.routes.flatMap(route => Object.entries(propertiesOf(route.body?.schema)).filter(([, part]) => takesUrls(part)).map(([field]) => ({ route, field })))
    campaign.notApplicable('outbound.reached', 'no route takes a URL')
    if (taking.length === 0 || !isHere(campaign)) return campaign.notApplicable('outbound.reached', 'the service is on another machine')
    const listener = await listen()
    campaign.mask.add('port of the listener', String(listener.port))
    try {
      for (const { route, field } of taking) {
        const [as] = await campaign.passing(route)
        if (as !== undefined && !campaign.isOff(route, 'outbound.reached')) await tryField(campaign, route, as, field, listener)
      }
    } finally {
      await listener.close()
    }
  },
}

function takesUrls ({ format, pattern, ...schema }: Schema): boolean {
  if (!typesOf({ format, pattern, ...schema }).includes('string')) return false
  if (URL_FORMATS.has(format)) return true
  const expression = typeof pattern === 'string' ? expressionOf(pattern) : null
  return expression !== null && expression.test('https://example.com/') && !expression.test('words')
}

function isHere ({ app, target }: Campaign): boolean {
  return app !== null || ['localhost', '127.0.0.1', '[::1]'].includes(new URL(target.origin).hostname)
}

async function tryField (campaign: Campaign, route: Route, as: string | null, field: string, { port, reached }: Listener): Promise<void> {
  const then = campaign.surface.routes.find(({ name }) => name === route.connects)
  const sent = []
  for (const [i, host] of HOSTS.entries()) {
    const path = `/${campaign.random.text(12)}-${i}`
    const url = `http://${host.replace(/^user@/, 'user:pass@')}:${port}${path}`
    // Whoever sets it makes the service connect to it, too.
    const headers = as === null || then === undefined ? undefined : (await campaign.callers.get(as)).headers(then.method)
    const shot = await campaign.ofOwn(route, as, body => ({ ...body as object, [field]: url }))
    if (typeof shot === 'string') return campaign.unproven(route, 'outbound.reached', shot)
    const exchange = await campaign.ask({ ...shot, isAllowed: true })
    if (exchange.status < 400 && then !== undefined) await campaign.ask({ route: then, as, path: await campaign.anyPath(then, as), ...headers !== undefined && { headers } })
    sent.push({ exchange, path, url })
  }
  await pause(LATER_MS)
  for (const { exchange, path, url } of sent) campaign.check('outbound.reached', exchange, !reached.has(path), `no connection to this machine, by ${field}`, `${exchange.status}, and ${url.replace(/:\d+\/.*/, '')} was connected to`, field)
}

/** On both loopback addresses, as far as there are two. */
async function listen (): Promise<Listener> {
  const reached = new Set<string>()
  const server = () => createServer(({ url = '' }, response) => {
    reached.add(url)
    response.end('{}')
  })
  const listening = (one: Server, host: string, port: number) => new Promise<boolean>(resolve => {
    one.once('error', () => { resolve(false) })
    one.listen(port, host, () => { resolve(true) })
  })
  const first = server()
  await listening(first, '127.0.0.1', 0)
  const { port } = first.address() as AddressInfo
  const second = server()
  await listening(second, '::1', port)
  return {
    port,
    reached,
    async close () {
      for (const one of [first, second]) {
        one.closeAllConnections()
        await new Promise(resolve => { one.close(resolve) })
      }
    },
  }
}
