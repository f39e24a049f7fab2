/** Turns: looking into files costs memory and processor, so only a few are looked into at once. */
import { UploadsBusy } from './errors.js'

/** Runs at most `concurrency` tasks at once; more wait, and beyond `queue` waiting ones are refused. `watch` is given what reads how many there are. */
export function takeTurns (
  concurrency: number, queue: number, watch: (running: () => number, waiting: () => number) => void = () => {}
): <T>(task: () => Promise<T>) => Promise<T> {
  const waiting: (() => void)[] = []
  let running = 0
  watch(() => running, () => waiting.length)

  return async function inTurn (task) {
    if (running >= concurrency) {
      if (waiting.length >= queue) throw Object.assign(new UploadsBusy(), { expose: true, headers: { 'retry-after': '5' } })
      await new Promise<void>(resolve => { waiting.push(resolve) })
    } else running += 1
    try {
      return await task()
    } finally {
      const next = waiting.shift()
      if (next === undefined) running -= 1
      else next() // its place goes to the one that waited longest
    }
  }
}
