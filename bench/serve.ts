/** One contender in a process of its own. The parent asks over IPC; without a parent it prints where it listens. */
import type { Build } from './question.js'

export interface Serving { port: number, tokens: string[] }
export interface Usage { cpuMs: number, rssMb: number }

const [, , name = 'suite', people = '1'] = process.argv
const { build } = await import(`./contenders/${name}.js`) as { build: Build }
const { app, tokens } = await build()
await app.listen({ host: '127.0.0.1', port: 0 })
const { port } = app.server.address() as { port: number }
const serving: Serving = { port, tokens: await tokens(Number(people)) }

if (process.send === undefined) console.log(`${name} on http://127.0.0.1:${port}, authorization: Bearer ${serving.tokens[0]}`)
else process.send(serving)

process.on('message', async message => {
  if (message === 'usage') {
    const { user, system } = process.cpuUsage()
    process.send!({ cpuMs: (user + system) / 1000, rssMb: Math.round(process.memoryUsage().rss / 2 ** 20) } satisfies Usage)
  } else if (message === 'stop') process.exit()
})
