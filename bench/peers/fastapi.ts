/** FastAPI (`service.py`), where there is a Python with fastapi, uvicorn and pyjwt: `python3`, or the one that `PYTHON` names. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import jsonwebtoken from 'jsonwebtoken'
import { ORIGIN, READ, readHours, readOrder, WRITE, writeNote, type Build } from '../question.js'
import { PYTHON, root } from '../rounds.js'
import { SECRET, type Claims } from './shapes.js'

const START_MS = 30_000

export const build: Build = async ({ people }) => {
  const probe = createServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const { port } = probe.address() as AddressInfo
  await once(probe.close(), 'close')

  const given = { secret: SECRET, origin: ORIGIN, read: READ, write: WRITE, order: await readOrder(), note: await writeNote({ body: {} }), hours: await readHours() }
  const child = spawn(PYTHON, [join(root, 'bench/peers/service.py'), String(port), JSON.stringify(given)], { stdio: ['ignore', 'inherit', 'inherit'] })
  process.on('exit', () => child.kill())
  for (const until = performance.now() + START_MS; ; await pause(100)) {
    if (child.exitCode !== null || performance.now() > until) throw new Error('FastAPI does not start')
    if (await fetch(`http://127.0.0.1:${port}/hours`).then(({ ok }) => ok, () => false)) break
  }
  const sign = (sub: string, permissions: string[]) => jsonwebtoken.sign({ sub, permissions } satisfies Claims, SECRET, { expiresIn: '1h' })
  return { port, pid: child.pid!, tokens: Array.from({ length: people }, (_none, i) => sign(`user-${i}`, [READ, WRITE])), powerless: sign('guest', []) }
}
