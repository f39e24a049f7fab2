/** The data directory: one process at a time, and the secrets that a development run makes for itself. */
import { randomBytes } from 'node:crypto'
import { existsSync, linkSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/**
 * Takes the directory for this process.
 *
 * @returns the function that gives it back
 * @throws Error that names the process that has it
 */
export function lockDirectory (directory: string): () => void {
  mkdirSync(directory, { recursive: true, mode: 0o700 })
  const path = join(directory, 'lock')
  const own = `${path}.${process.pid}`
  const self = `${process.pid} ${startOf(process.pid) ?? ''}`
  // Written first and linked whole, so that nobody ever reads half a lock.
  writeFileSync(own, self, { mode: 0o600 })
  try {
    removeIfLeftBehind(path)
    linkSync(own, path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    const [holder] = readFileSync(path, 'utf8').split(' ')
    throw new Error(`The data directory ${directory} is in use by process ${holder}. Stop it, or set DATA_DIR to another folder.`)
  } finally {
    rmSync(own, { force: true })
  }
  return () => {
    if (existsSync(path) && readFileSync(path, 'utf8') === self) rmSync(path, { force: true })
  }
}

/** A process that was killed leaves its lock behind. */
function removeIfLeftBehind (path: string): void {
  const moved = `${path}.${process.pid}.old`
  try {
    if (isHeld(readFileSync(path, 'utf8'))) return
    renameSync(path, moved)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return // there is none, or somebody else has just removed it
    throw error
  }
  // Two may come to this line at once: the one that moved away what the other has just linked puts it back.
  try {
    if (isHeld(readFileSync(moved, 'utf8'))) linkSync(moved, path)
  } finally {
    rmSync(moved)
  }
}

function isHeld (lock: string): boolean {
  const [pid = '', started = ''] = lock.split(' ')
  if (!/^[1-9]\d*$/.test(pid) || Number(pid) === process.pid) return false
  try {
    process.kill(Number(pid), 0)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
  return (startOf(Number(pid)) ?? '') === started
}

/** When a process began, where the system tells (Linux): a number that was given again, or a process that only waits to be buried, holds nothing. */
function startOf (pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    const [state, ...fields] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return state === 'Z' ? null : fields[18]!
  } catch {
    return null
  }
}

/** The master secret of this directory, made at the first start and kept with mode 0600: development only. */
export function secretOf (directory: string): string {
  const path = join(directory, 'app-secret')
  if (!existsSync(path)) writeFileSync(path, randomBytes(48).toString('base64url'), { mode: 0o600, flag: 'wx' })
  return readFileSync(path, 'utf8').trim()
}
