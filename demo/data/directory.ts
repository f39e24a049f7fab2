/** The data directory: one process at a time, and the secrets that a development run makes for itself. */
import { randomBytes } from 'node:crypto'
import { mkdirSync, openSync, readFileSync, rmSync, writeFileSync, closeSync, existsSync } from 'node:fs'
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
  for (let tries = 0; tries < 3; tries++) {
    try {
      const file = openSync(path, 'wx', 0o600)
      writeFileSync(file, String(process.pid))
      closeSync(file)
      return () => rmSync(path, { force: true })
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    }
    const holder = Number(readFileSync(path, 'utf8'))
    if (isRunning(holder)) {
      throw new Error(`The data directory ${directory} is in use by process ${holder}. Stop it, or set DATA_DIR to another folder.`)
    }
    rmSync(path, { force: true }) // left behind by a process that was killed
  }
  throw new Error(`The data directory ${directory} cannot be locked: two processes are starting on it at once.`)
}

function isRunning (pid: number): boolean {
  if (!Number.isInteger(pid) || pid <= 0 || pid === process.pid) return false
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

/** The master secret of this directory, made at the first start and kept with mode 0600: development only. */
export function secretOf (directory: string): string {
  const path = join(directory, 'app-secret')
  if (!existsSync(path)) writeFileSync(path, randomBytes(48).toString('base64url'), { mode: 0o600, flag: 'wx' })
  return readFileSync(path, 'utf8').trim()
}
