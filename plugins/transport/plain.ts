/** The second server, which speaks plain HTTP beside the one that speaks HTTPS: its requests take the same way, and are redirected or refused there. */
import { once } from 'node:events'
import type { Server } from 'node:http'
import type { ListenOptions } from 'node:net'
import type { FastifyInstance } from 'fastify'
import { serverFactory } from '../sockets.js'

/** Milliseconds that answers in flight have when it closes: there are only short ones. */
const CLOSE_MS = 1000

/** Makes it, has it listen right before the main server does, and end with it; that the port cannot be had is an error of `listen`. */
export function plainServer (app: FastifyInstance, { port, host }: { port: number, host?: string }): Server {
  const { server: main } = app
  const { requestTimeout, keepAliveTimeout } = app.initialConfig as { requestTimeout: number, keepAliveTimeout: number }
  const http = { requireHostHeader: false, joinDuplicateHeaders: true }
  const plain = serverFactory(CLOSE_MS)((request, response) => app.routing(request, response), { http, requestTimeout, keepAliveTimeout, http2SessionTimeout: 0 })
  plain.on('clientError', (error, socket) => main.emit('clientError', error, socket))

  const listen = main.listen.bind(main)
  main.listen = function listenOnBoth (options: ListenOptions) {
    plain.once('error', error => main.emit('error', error))
    plain.listen({ port, host: host ?? options.host ?? 'localhost' }, () => {
      app.log.info({ address: plain.address() }, 'plain HTTP is redirected or refused')
      // Alone it would keep a process alive that does not serve.
      const closePlain = () => { plain.close() }
      main.once('error', closePlain).once('listening', () => { main.off('error', closePlain) })
      listen(options)
    })
    return main
  } as Server['listen']
  app.addHook('preClose', async () => {
    if (!plain.listening) return
    plain.close()
    await once(plain, 'close')
  })
  return plain
}
