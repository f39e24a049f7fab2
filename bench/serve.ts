/** One contender in a process of its own: `serve.js <contender> <settings as JSON>`. The parent asks over IPC; without a parent it prints where it listens. */
import { existsSync, readFileSync } from 'node:fs'
import { complete, type Build, type Serving, type Settings } from './question.js'

export type { Serving } from './question.js'
export interface Usage { cpuMs: number, rssMb: number }

const [, , name = 'suite', settings = '{}'] = process.argv
const folder = existsSync(new URL(`./contenders/${name}.js`, import.meta.url)) ? 'contenders' : 'peers'
const { build } = await import(`./${folder}/${name}.js`) as { build: Build }
const serving: Serving = await build(complete(JSON.parse(settings) as Settings))

if (process.send === undefined) console.log(`${name} on http://127.0.0.1:${serving.port}, authorization: Bearer ${serving.tokens[0]}`)
else process.send(serving)

process.on('message', async message => {
  if (message === 'usage') {
    process.send!(serving.pid === undefined ? ownUsage() : usageOf(serving.pid))
  } else if (message === 'stop') process.exit()
})

function ownUsage (): Usage {
  const { user, system } = process.cpuUsage()
  return { cpuMs: (user + system) / 1000, rssMb: Math.round(process.memoryUsage().rss / 2 ** 20) }
}

/** proc(5): user and system time in hundredths of a second, resident pages of 4 kB. */
function usageOf (pid: number): Usage {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]!.split(' ')
  return { cpuMs: (Number(fields[11]) + Number(fields[12])) * 10, rssMb: Math.round(Number(fields[21]) * 4096 / 2 ** 20) }
}
