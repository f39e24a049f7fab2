/**
 * Where attacks are run: a portal in production mode and its vulnerable twin, each a process of its own with a data directory that is thrown away. Nothing of the
 * portal that people use is touched.
 */
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { FRIEND, Spent, type Attack, type Exchange } from './attack.js'
import { search, tail } from './backup.js'
import { startProgram } from './program.js'
import { targetOf, type Side, type Target } from './target.js'

const ATTACKS = new URL('../attacks/', import.meta.url)
const PROGRAMS = { portal: 'demo/server.ts', twin: 'demo/vulnerable/server.ts' }
/** Of the portal: one other origin may read its answers, and its tokens are checked by a key that is published. */
const SETTINGS = { CORS_ORIGINS: FRIEND, JWT_ALGORITHM: 'EdDSA' }
/** Milliseconds: to start, on a machine that is busy; and to end before it is ended. */
const START_DEADLINE = 240_000
const GRACE = 10_000

export interface Result {
  /** `unclear`: it failed otherwise than by the refusal that it names, or could not be carried out. */
  verdict: 'succeeded' | 'refused' | 'unclear'
  evidence: string
  exchanges: readonly Exchange[]
  /** Place in `exchanges` of the one that decides; -1 where there is none. */
  decisive: number
  /** Exchanges that were left out, in the middle. */
  left: number
  /** Milliseconds. */
  ms: number
}
export interface Duel { name: string, twin: Result, portal: Result }

/** Whether both sides did what they are for. */
export function isShown ({ twin, portal }: Duel): boolean {
  return twin.verdict === 'succeeded' && portal.verdict === 'refused'
}

export interface Range {
  /** Runs one attack against both. @throws RangeError where there is no such attack */
  run: (name: string) => Promise<Duel>
  close: () => Promise<void>
}

/** All attacks by their names, which are those of their files. */
export async function attacks (): Promise<Map<string, Attack>> {
  const names = (await readdir(ATTACKS)).filter(file => file.endsWith('.ts')).map(file => file.slice(0, -3)).sort()
  return new Map(await Promise.all(names.map(async name => [name, (await import(new URL(`${name}.ts`, ATTACKS).href)).default as Attack] as const)))
}

/** `signal` ends it, while it is being opened too. */
export async function openRange (signal?: AbortSignal): Promise<Range> {
  const known = await attacks()
  const isShared = !await hasManyAddresses()
  let sides = await openSides(signal)
  let next = 0
  let isFirst = true

  return {
    async run (name) {
      const attack = known.get(name)
      if (attack === undefined) throw new RangeError(`there is no attack ${name}`)
      // Where the machine has one address alone, what an attack has spent of it would be lacking to the next.
      if (isShared && !isFirst) {
        await closeAll(sides)
        sides = await openSides(signal)
      }
      isFirst = false
      const number = next++
      const machines = (n: number) => isShared ? '127.0.0.1' : `127.${1 + (number >> 8) % 250}.${number & 255}.${10 + n}`
      const both = () => Promise.all([fight(attack, sides.twin, machines), fight(attack, sides.portal, machines)])
      let results = await both()
      if (results.some(({ isSpent }) => isSpent)) {
        await closeAll(sides)
        sides = await openSides(signal)
        results = await both()
      }
      const [{ result: twin }, { result: portal }] = results
      return { name, twin, portal }
    },
    close: () => closeAll(sides),
  }
}

/** `isSpent`: it found nothing left of what each attack of its kind uses up. */
async function fight (attack: Attack, side: Side, machines: (n: number) => string): Promise<{ result: Result, isSpent: boolean }> {
  const { target, exchanges, left, close } = targetOf(side, machines)
  const since = performance.now()
  const result = (verdict: Result['verdict'], evidence: string, decisive: number, isSpent = false) => ({ result: { verdict, evidence, exchanges, decisive, left: left(), ms: performance.now() - since }, isSpent })
  try {
    const { succeeded, evidence, decisive } = await attack.run(target)
    const place = exchanges.indexOf(decisive)
    if (succeeded) return result('succeeded', evidence, place)
    return isRefusal(decisive, attack, target) ? result('refused', evidence, place) : result('unclear', `not the refusal that is expected: ${decisive.status} ${decisive.body?.code ?? ''}`, place)
  } catch (error) {
    return result('unclear', (error as Error).message, -1, error instanceof Spent)
  } finally {
    close()
  }
}

/** On the portal a refusal is the one that the attack names; the twin has none to keep to. */
function isRefusal ({ status, body }: Exchange, { refusal }: Attack, { side }: Target): boolean {
  return side === 'twin' || (status === refusal.status && (refusal.code === undefined || body?.code === refusal.code))
}

interface Sides { twin: Opened, portal: Opened }
interface Opened extends Side { close: () => Promise<void> }

async function openSides (signal?: AbortSignal): Promise<Sides> {
  await sweep()
  const password = `Range-${randomBytes(9).toString('base64url')}-1a`
  const opening = [
    open('twin', { DEMO_PASSWORD: password, RANGE_KEY: randomBytes(32).toString('base64url') }, signal),
    open('portal', { DEMO_PASSWORD: password, NODE_ENV: 'production', APP_SECRET: randomBytes(48).toString('base64url'), ...SETTINGS }, signal),
  ] as const
  try {
    const [twin, portal] = await Promise.all(opening)
    return { twin, portal }
  } catch (error) {
    for (const side of await Promise.allSettled(opening)) if (side.status === 'fulfilled') await side.value.close()
    throw error
  }
}

async function closeAll ({ twin, portal }: Sides): Promise<void> {
  await Promise.all([twin.close(), portal.close()])
}

async function open (side: Target['side'], settings: Record<string, string>, signal?: AbortSignal): Promise<Opened> {
  const directory = await mkdtemp(join(tmpdir(), `range-${process.pid}-${side}-`))
  const data = join(directory, 'data')
  await mkdir(data)
  const child = startProgram(PROGRAMS[side], directory, { PORT: '0', DATA_DIR: data, ...settings })
  const stop = () => { child.kill('SIGTERM') }
  if (signal?.aborted === true) stop()
  else signal?.addEventListener('abort', stop, { once: true })
  const log = tail()
  const ended = once(child, 'close')
  async function close (): Promise<void> {
    child.kill('SIGTERM')
    const timer = setTimeout(() => child.kill('SIGKILL'), GRACE)
    await ended
    clearTimeout(timer)
    signal?.removeEventListener('abort', stop)
    await rm(directory, { recursive: true, force: true })
  }
  const listening = new Promise<number>((resolve, reject) => {
    let isOpen = false
    for (const stream of [child.stdout!, child.stderr!]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        log.add(text)
        if (isOpen) return
        const [, port] = /^listening on http:\/\/127\.0\.0\.1:(\d+)$/m.exec(log.text()) ?? []
        if (port === undefined) return
        isOpen = true
        resolve(Number(port))
      })
    }
    ended.then(() => reject(new Error(`the ${side} did not start:\n${log.text()}`)), reject)
    setTimeout(() => reject(new Error(`the ${side} did not start in time:\n${log.text()}`)), START_DEADLINE).unref()
  })
  try {
    const port = await listening
    return { side, port, password: settings.DEMO_PASSWORD!, key: settings.RANGE_KEY, stolen: pattern => search(data, log, pattern), close }
  } catch (error) {
    await close()
    throw error
  }
}

/** Removes what ranges have left behind whose process was killed. */
async function sweep (): Promise<void> {
  for (const name of await readdir(tmpdir())) {
    const [, pid] = /^range-([1-9]\d*)-(?:twin|portal)-\w{6}$/.exec(name) ?? []
    if (pid === undefined || isRunning(Number(pid))) continue
    await rm(join(tmpdir(), name), { recursive: true, force: true }).catch(() => {}) // somebody else's, or still written to
  }
}

function isRunning (pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH'
  }
}

/** Linux answers for all of 127.0.0.0/8; others have one address of it. */
async function hasManyAddresses (): Promise<boolean> {
  const server = createServer()
  try {
    await once(server.listen(0, '127.1.2.3'), 'listening')
    return true
  } catch {
    return false
  } finally {
    server.close()
  }
}
