/** A shell reads what a client sends (CWE-78; API8). `validation` takes host names and addresses alone, and the portal runs the program without a shell. */
import { exec } from 'node:child_process'
import type { Twin } from '../app.js'

export default function shellCommands ({ app, userOf }: Twin): void {
  app.get<{ Querystring: { host: string } }>('/ping', async (request, reply) => {
    const { role } = await userOf(request)
    if (!['moderator', 'manager', 'admin'].includes(role)) return reply.code(403).send({ error: 'Not for you' })
    const { host } = request.query
    return await new Promise(resolve => {
      exec(`ping -c 1 -W 1 ${host}`, { timeout: 5000 }, (error, output, errors) => { resolve({ host, reachable: error === null, output: output + errors }) })
    })
  })
}
