/** Where uploads are kept: a port, and a local folder. */
import { randomBytes } from 'node:crypto'
import { constants, mkdirSync, realpathSync } from 'node:fs'
import { open, readdir, rename, stat, unlink, type FileHandle } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'

/** A file that is being made: on this machine, readable by this service alone, and not yet among those that are stored. */
export interface Draft {
  readonly path: string
  readonly file: FileHandle
}

/** The place of the files. One that keeps them elsewhere makes drafts in a scratch folder, and sends them in `commit`. */
export interface UploadStorage {
  /** A new, empty draft that is nobody else's. */
  create: () => Promise<Draft>
  /** Keeps a draft under this name, whole or not at all; durable once it resolves. The draft is spent. */
  commit: (draft: Draft, name: string) => Promise<void>
  /** Leaves nothing of a draft. Of one that is spent there is nothing to leave. */
  discard: (draft: Draft) => Promise<void>
  /** What is stored under this name, for reading; null where there is nothing. Close it. */
  open: (name: string) => Promise<FileHandle | null>
  /** True where there was something under this name. */
  remove: (name: string) => Promise<boolean>
  /**
   * At start-up: removes what processes that ended left behind, and what is stored and nobody knows of.
   *
   * @param known those of `names` that somebody knows of; absent: nobody keeps records
   */
  sweep?: (known?: (names: readonly string[]) => Promise<ReadonlySet<string>>) => Promise<void>
}

/** A stored name: random, with the extension of its kind. */
const NAME = /^[0-9a-f]{32}\.[a-z]{3,4}$/
const DRAFT = /^\.draft-([0-9a-f]+)-(\d+)-[0-9a-f]{32}$/
/** Milliseconds after which a draft of a machine that is not this one, or a file without a record, is nobody's any more. */
const ABANDONED_MS = 24 * 3_600_000
const UNKNOWN_MS = 3_600_000

/** Drafts of this process: several applications may share a folder. */
const own = new Set<string>()

export function isStoredName (name: string): boolean {
  return NAME.test(name)
}

/** Files in a folder of this machine, made with mode 0700 where it is not there. */
export function localStorage (folder: string): UploadStorage {
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  const root = realpathSync(folder)
  const machine = Buffer.from(hostname()).toString('hex').slice(0, 32) || '00'

  return {
    async create () {
      const path = join(root, `.draft-${machine}-${process.pid}-${randomBytes(16).toString('hex')}`)
      own.add(path)
      try {
        return { path, file: await open(path, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | (constants.O_NOFOLLOW ?? 0), 0o600) }
      } catch (error) {
        own.delete(path)
        throw error
      }
    },
    async commit ({ path, file }, name) {
      if (!NAME.test(name)) throw new TypeError('this is no name of a stored file')
      await file.sync()
      await file.close()
      await rename(path, join(root, name))
      own.delete(path)
      const directory = await open(root, 'r')
      // The name must outlive a loss of power too.
      await directory.sync().catch(() => {}).finally(() => directory.close())
    },
    async discard ({ path, file }) {
      await file.close().catch(() => {})
      await unlink(path).catch(ignoreAbsent)
      own.delete(path)
    },
    async open (name) {
      if (!NAME.test(name)) return null
      return open(join(root, name), constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0)).catch(ignoreAbsent)
    },
    async remove (name) {
      if (!NAME.test(name)) return false
      return unlink(join(root, name)).then(() => true, error => ignoreAbsent(error) ?? false)
    },
    async sweep (known) {
      const names = await readdir(root)
      for (const name of names) if (isLeftBehind(name, join(root, name)) || await isOld(name, DRAFT, ABANDONED_MS)) await unlink(join(root, name)).catch(ignoreAbsent)
      if (known === undefined) return
      const stored = names.filter(name => NAME.test(name))
      const recorded = await known(stored)
      for (const name of stored) if (!recorded.has(name) && await isOld(name, NAME, UNKNOWN_MS)) await unlink(join(root, name)).catch(ignoreAbsent)
    },
  }

  function isLeftBehind (name: string, path: string): boolean {
    const [, host, pid] = DRAFT.exec(name) ?? []
    return host === machine && !own.has(path) && (Number(pid) === process.pid || !isAlive(Number(pid)))
  }

  async function isOld (name: string, form: RegExp, ms: number): Promise<boolean> {
    const path = join(root, name)
    if (!form.test(name) || own.has(path)) return false
    const found = await stat(path).catch(ignoreAbsent)
    return found !== null && Date.now() - found.mtimeMs > ms
  }
}

function isAlive (pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

function ignoreAbsent (error: NodeJS.ErrnoException): null {
  if (error.code === 'ENOENT') return null
  throw error
}
