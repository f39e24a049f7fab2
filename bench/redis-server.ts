/** A Redis of the benchmark's own, that keeps nothing, and a client to it. `redis-server` must be on the PATH. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { REDIS_OPTIONS } from '../plugins/state/index.js'
import { isPinned } from './rounds.js'

export interface RedisServer {
  url: string
  client: Redis
  version: string
  /** What it has done so far. */
  used: () => Promise<RedisUsage>
  stop: () => Promise<void>
}
/** Milliseconds of processor time, commands, and how often it read from a connection. */
export interface RedisUsage { cpuMs: number, commands: number, reads: number }

/** @param core the one that it runs on; by default any */
export async function startRedis (core?: number): Promise<RedisServer> {
  const port = await freePort()
  const directory = mkdtempSync(join(tmpdir(), 'bastion-bench-'))
  const command = ['redis-server', '--port', String(port), '--bind', '127.0.0.1', '--save', '', '--dir', directory]
  const [file, ...args] = core === undefined || !isPinned ? command : ['taskset', '-c', String(core), ...command]
  const server = spawn(file!, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  for await (const line of server.stdout) if (String(line).includes('Ready to accept')) break
  const client = new Redis(port, '127.0.0.1', { ...REDIS_OPTIONS, socketTimeout: undefined })
  await once(client, 'ready')
  const told = await client.info()
  return {
    url: `redis://127.0.0.1:${port}`,
    client,
    version: /^redis_version:(\S+)/m.exec(told)![1]!,
    async used () {
      const info = await client.info()
      const number = (name: string) => Number(new RegExp(`^${name}:([\\d.]+)`, 'm').exec(info)![1])
      return { cpuMs: (number('used_cpu_user') + number('used_cpu_sys')) * 1000, commands: number('total_commands_processed'), reads: number('total_reads_processed') }
    },
    async stop () {
      client.disconnect()
      server.kill()
      if (server.exitCode === null) await once(server, 'exit')
      rmSync(directory, { recursive: true, force: true })
    },
  }
}

async function freePort (): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const { port } = probe.address() as AddressInfo
  probe.close()
  await once(probe, 'close')
  return port
}
