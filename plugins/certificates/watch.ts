/** Tells that files may have changed: their folders are watched, since renewals replace links and whole files, and looked at now and then for what no watcher sees. */
import { realpathSync, statSync, watch, type FSWatcher } from 'node:fs'
import { dirname } from 'node:path'

/** Milliseconds from the first sign of a change to the look at the files: those that belong together come shortly after one another. */
const SETTLE_MS = 150

export interface FileWatch {
  close: () => void
}

/**
 * @param changed called when one of `paths` is another file than before, or was written
 * @param pollMs milliseconds between two looks (network file systems tell no watcher)
 */
export function watchFiles (paths: readonly string[], pollMs: number, changed: () => void): FileWatch {
  let watchers = new Map<string, FSWatcher>()
  let seen = signatureOf(paths)
  let timer: NodeJS.Timeout | null = null
  let isClosed = false
  const poll = setInterval(look, pollMs).unref()
  follow()

  return {
    close () {
      isClosed = true
      clearInterval(poll)
      if (timer !== null) clearTimeout(timer)
      for (const watcher of watchers.values()) watcher.close()
    },
  }

  function soon (): void {
    timer ??= setTimeout(() => {
      timer = null
      look()
    }, SETTLE_MS).unref()
  }

  function look (): void {
    if (isClosed) return
    const now = signatureOf(paths)
    if (now === seen) return
    seen = now
    follow()
    changed()
  }

  /** Folders of the links, and of what they lead to. */
  function follow (): void {
    const next = new Map<string, FSWatcher>()
    for (const folder of new Set(paths.flatMap(path => [dirname(path), ...targetOf(path)]))) {
      const watcher = watchers.get(folder) ?? begin(folder)
      if (watcher !== null) next.set(folder, watcher)
    }
    for (const [folder, watcher] of watchers) if (!next.has(folder)) watcher.close()
    watchers = next
  }

  function begin (folder: string): FSWatcher | null {
    try {
      const watcher = watch(folder, { persistent: false }, soon)
      watcher.on('error', () => {
        watcher.close()
        if (watchers.get(folder) === watcher) watchers.delete(folder)
      })
      return watcher
    } catch {
      return null // no more watches to be had, or no such folder: the look every `pollMs` is left
    }
  }
}

function targetOf (path: string): string[] {
  try {
    return [dirname(realpathSync(path))]
  } catch {
    return []
  }
}

/** What each path leads to, when it was written, and how long it is. */
function signatureOf (paths: readonly string[]): string {
  return paths.map(path => {
    try {
      const { dev, ino, size, mtimeMs, ctimeMs } = statSync(path)
      return [dev, ino, size, mtimeMs, ctimeMs].join()
    } catch {
      return 'none'
    }
  }).join(' ')
}
