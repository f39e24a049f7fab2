/**
 * The spool: a bounded file of this process for events that the database does not take at the moment.
 *
 * What was appended is on the disk (fsync) when `append` answers, and is read again in its order. Each line is sealed, so that the half of one
 * that a killed process leaves behind, or what somebody wrote into it, is told from an event. Files of processes that have ended are taken up.
 * The folder belongs to one machine, or one container: a process of another one would be taken for one that has ended.
 */
import { randomInt } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync, renameSync } from 'node:fs'
import { open, rm, stat, type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import type { KeyRing } from './chain.js'
import type { Entry } from './content.js'

const NAME = /^audit-(\d+)-([0-9a-z]+)-\d+\.spool$/
/** Bytes read at once; no line is longer. */
const CHUNK = 262_144
/** Milliseconds after which a disk that took nothing may be tried again. */
const FAULT_MS = 1000
/** A process that only waits to be buried. */
const ENDED = 'ended'

export interface SpoolOptions {
  folder: string
  /** Bytes that the file may have. */
  maxBytes: number
  ring: KeyRing
  /** A line that is neither whole nor the last one. */
  onDamage: (lines: number) => void
}

export class Spool {
  readonly #options: SpoolOptions
  #path: string
  #file: FileHandle | null = null
  /** Bytes that are on the disk, and that were read again. */
  #size = 0
  #read = 0
  /** Files of others that were taken and are not written yet. */
  readonly #taken: string[] = []
  #turn: Promise<unknown> = Promise.resolve()
  #taking: Promise<unknown> = Promise.resolve()
  /** When the disk took nothing, where that was the last attempt. */
  #failedAt = -Infinity

  /** Makes the folder. */
  constructor (options: SpoolOptions) {
    this.#options = options
    mkdirSync(options.folder, { recursive: true, mode: 0o700 })
    this.#path = join(options.folder, nextName())
  }

  get waiting (): number { return this.#size - this.#read }

  /** Whether there may be room for one more. */
  get hasRoom (): boolean { return performance.now() - this.#failedAt > FAULT_MS && this.#size + CHUNK <= this.#options.maxBytes }

  /** Writes them to the disk, as many of the first as there is room for; answers how many. */
  append (entries: readonly Entry[]): Promise<number> {
    return this.#alone(async () => {
      const lines: Buffer[] = []
      let bytes = 0
      for (const entry of entries) {
        const line = this.#lineOf(entry)
        if (this.#size + bytes + line.length > this.#options.maxBytes) break
        lines.push(line)
        bytes += line.length
      }
      if (lines.length === 0) return 0
      try {
        await this.#write(Buffer.concat(lines))
        this.#failedAt = -Infinity
      } catch (error) {
        this.#failedAt = performance.now()
        throw error
      }
      this.#size += bytes
      return lines.length
    })
  }

  /** The next ones, and the function that marks them as done. */
  async next (limit: number): Promise<{ entries: Entry[], done: () => Promise<void> }> {
    if (this.#file === null) throw new Error('the spool is closed')
    const from = this.#read
    const { entries, bytes, damaged } = await this.#readLines(this.#file, from, this.#size, limit)
    if (damaged > 0) this.#options.onDamage(damaged)
    return {
      entries,
      done: () => this.#alone(async () => {
        this.#read = from + bytes
        if (this.#read < this.#size) return
        this.#read = this.#size = 0
        await this.#file?.truncate(0)
      }),
    }
  }

  /** Takes up what processes that have ended left behind: `write` keeps each part of it, and what it rejects stays for later. */
  takeUp (write: (entries: Entry[]) => Promise<void>, limit: number): Promise<void> {
    const taken = this.#taking.then(() => this.#takeUp(write, limit))
    this.#taking = taken.catch(() => {})
    return taken
  }

  async #takeUp (write: (entries: Entry[]) => Promise<void>, limit: number): Promise<void> {
    this.#taken.push(...this.#orphans())
    for (let path; (path = this.#taken[0]) !== undefined; this.#taken.shift()) {
      const file = await open(path, 'r')
      try {
        const { size } = await stat(path)
        for (let at = 0; at < size;) {
          const { entries, bytes, damaged } = await this.#readLines(file, at, size, limit)
          if (damaged > 0) this.#options.onDamage(damaged)
          if (entries.length > 0) await write(entries)
          at += bytes
        }
      } finally {
        await file.close()
      }
      await rm(path, { force: true })
    }
  }

  /** Closes the file; one with nothing in it is removed. */
  async close (): Promise<void> {
    await this.#file?.close()
    if (this.#file !== null && this.waiting === 0) await rm(this.#path, { force: true })
    this.#file = null
    // What comes all the same has a file of its own, for the next start.
    this.#path = join(this.#options.folder, nextName())
    this.#size = this.#read = 0
  }

  /** Files of others that are nobody's any more, now under names of ours: of two who take one, one gets it. */
  #orphans (): string[] {
    const { folder } = this.#options
    return readdirSync(folder).filter(isOrphan).flatMap(name => {
      const path = join(folder, nextName())
      try {
        renameSync(join(folder, name), path)
        return [path]
      } catch {
        return []
      }
    })
  }

  #alone<T> (work: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(work)
    this.#turn = done.catch(() => {})
    return done
  }

  /** Where the last one ended. What a failed attempt left beyond it is cut off: in the file of a process that has ended it would be damage. */
  async #write (text: Buffer): Promise<void> {
    const file = this.#file ??= await open(this.#path, 'wx+', 0o600)
    try {
      for (let written = 0; written < text.length;) written += (await file.write(text, written, text.length - written, this.#size + written)).bytesWritten
      await file.datasync()
    } catch (error) {
      await file.truncate(this.#size).catch(() => {})
      throw error
    }
  }

  #lineOf (entry: Entry): Buffer {
    const text = JSON.stringify(entry)
    return Buffer.from(`${this.#options.ring.current} ${this.#options.ring.mac('spool', text)!} ${text}\n`)
  }

  async #readLines (file: FileHandle | null, from: number, end: number, limit: number): Promise<{ entries: Entry[], bytes: number, damaged: number }> {
    const length = Math.min(CHUNK, end - from)
    if (file === null || length <= 0) return { entries: [], bytes: 0, damaged: 0 }
    const { buffer, bytesRead } = await file.read(Buffer.allocUnsafe(length), 0, length, from)
    // Somebody cut it off: there is nothing to wait for.
    if (bytesRead === 0) return { entries: [], bytes: end - from, damaged: 1 }
    const entries: Entry[] = []
    let bytes = 0
    let damaged = 0
    while (bytes < bytesRead && entries.length < limit) {
      const stop = buffer.indexOf(10, bytes)
      if (stop === -1 || stop >= bytesRead) {
        // The rest is no line. Of a longer text the next reading begins there; at the end it is the half of one, which was never promised to anybody.
        if (from + bytesRead >= end) return { entries, bytes: bytesRead, damaged }
        if (bytes > 0) break
        return { entries, bytes: bytesRead, damaged: damaged + 1 }
      }
      const entry = this.#entryOf(buffer.toString('utf8', bytes, stop))
      if (entry === null) damaged += 1
      else entries.push(entry)
      bytes = stop + 1
    }
    return { entries, bytes, damaged }
  }

  #entryOf (line: string): Entry | null {
    const [, key, mac, text] = /^(\S+) (\S+) (\{.*\})$/.exec(line) ?? []
    return text !== undefined && this.#options.ring.proves('spool', text, key!, mac!) ? JSON.parse(text) as Entry : null
  }
}

/** How the names of this process's own files begin. */
const ownName = `audit-${process.pid}-${startOf(process.pid) ?? Date.now().toString(36)}-`

/** Chance, as threads of one process do not know what names the others gave. */
function nextName (): string {
  return `${ownName}${randomInt(2 ** 47)}.spool`
}

function isOrphan (name: string): boolean {
  const [, pid, started] = NAME.exec(name) ?? []
  if (pid === undefined || name.startsWith(ownName)) return false
  try {
    process.kill(Number(pid), 0)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'EPERM'
  }
  const now = startOf(Number(pid))
  return Number(pid) === process.pid || (now !== null && now !== started)
}

/** When a process began, where the system tells (Linux): a number that was given again is not the process that had it. */
function startOf (pid: number): string | null {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8')
    const [state, ...fields] = text.slice(text.lastIndexOf(')') + 2).split(' ')
    return state === 'Z' ? ENDED : fields[18]!
  } catch {
    return null
  }
}
