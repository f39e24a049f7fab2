/** A server that knows nothing and refuses whatever comes, as late as the service does: what its flood does to the one who measures is the generator's own. */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

const server = createServer((_request, response) => { setTimeout(() => response.writeHead(429).end(), Number(process.argv[2])) })
server.listen(0, '127.0.0.1', () => process.send!({ port: (server.address() as AddressInfo).port }))
process.on('message', () => process.exit())
