/** Starts a program of the demonstration for itself: nothing reaches it of what the developer has set, in the environment or in a `.env`, and it ends with this process. */
import { spawn, type ChildProcess } from 'node:child_process'
import { fileURLToPath } from 'node:url'

const ROOT = new URL('../../', import.meta.url)
const TSX = import.meta.resolve('tsx')
const PARENT = new URL('parent.ts', import.meta.url).href
// Else tsx would take the next one above the folder that the program runs in, whoever has put it there.
const TSX_TSCONFIG_PATH = fileURLToPath(new URL('tsconfig.json', ROOT))

/**
 * @param path from the root of this repository
 * @param directory where it runs: it reads a `.env` that lies there, so that nobody else writes into it
 * @param settings its whole environment, but for PATH and HOME
 */
export function startProgram (path: string, directory: string, settings: Record<string, string>): ChildProcess {
  const { PATH, HOME } = process.env
  // The database in WebAssembly is compiled once, for a start in two thirds of the time: a program that lives a minute never earns more back.
  return spawn(process.execPath, ['--liftoff-only', '--import', TSX, '--import', PARENT, fileURLToPath(new URL(path, ROOT))], {
    cwd: directory, env: { PATH, HOME, TSX_TSCONFIG_PATH, ...settings }, stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  })
}
