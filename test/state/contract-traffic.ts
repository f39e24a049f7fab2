/** Counters against the naive model: every number of every decision. */
import { isDeepStrictEqual } from 'node:util'
import type { Test } from 'tap'
import type { Algorithm, Decision, Window } from '../../plugins/state/index.js'
import type { Opened } from './contract.js'
import { Model } from './model.js'

const STEPS = 250
/** The most of its limit that may pass in any span of a window's length; what is not exact stays below it. */
const BUSIEST: Record<Algorithm, number> = { fixed: 2, sliding: 2, log: 1, bucket: 2 }

type Random = (n: number) => number

export async function holdsTraffic (t: Test, begin: (t: Test) => Promise<Opened>, rounds: number): Promise<void> {
  for (const algorithm of ['fixed', 'sliding', 'log', 'bucket'] as const) {
    t.test(`${algorithm}: random traffic is decided as by a naive exact model, and retryMs and resetMs are exact to the millisecond`, async t => {
      await compare(t, algorithm, upTo => ({
        windows: Array.from({ length: upTo(3) }, () => ({ limit: upTo(12), ms: upTo(9000) })),
        cost: () => upTo(5) > 1 ? 1 : upTo(4),
        step: widest => upTo(2) === 1 ? 0 : upTo(10) === 1 ? upTo(3 * widest) : upTo(600),
      }))
    })
  }

  for (const algorithm of ['fixed', 'sliding', 'bucket'] as const) {
    t.test(`${algorithm}: and so it is with the largest budgets, where numbers have no digit to spare`, async t => {
      await compare(t, algorithm, upTo => {
        const windows = Array.from({ length: upTo(2) }, () => ({ limit: 52_000_000 - upTo(1000), ms: 86_400_000 + upTo(1000) }))
        return {
          windows,
          cost: () => upTo(3) > 1 ? upTo(1000) : upTo(26_000_000),
          step: widest => upTo(2) === 1 ? 0 : upTo(widest / 4),
        }
      })
    })
  }

  async function compare (
    t: Test, algorithm: Algorithm, traffic: (upTo: Random) => { windows: Window[], cost: () => number, step: (widest: number) => number }
  ): Promise<void> {
    const { state, clock } = await begin(t)
    let passed = 0
    let refused = 0
    let worst = 0
    for (let seed = 1; seed <= rounds; seed++) {
      const random = randomFrom(seed * 7919)
      const upTo: Random = n => 1 + Math.floor(random() * n)
      const { windows, cost: costOf, step } = traffic(upTo)
      const widest = Math.max(...windows.map(({ ms }) => ms))
      const counter = state.counter({ name: `random-${seed}`, windows, algorithm })
      const model = new Model(windows, algorithm)

      /** What is wrong with a decision; null where nothing is. */
      const faultOf = (decision: Decision, cost: number, violated: number[]): string | null => {
        const at = clock.ms
        const { allowed, window, limit, remaining, resetMs, retryMs, banned } = decision
        if (allowed !== (violated.length === 0)) return 'allowed'
        if (!isDeepStrictEqual([...decision.violated], violated)) return 'violated'
        if (banned || limit !== windows[window]!.limit || (!allowed && !violated.includes(window))) return 'window'
        if (remaining !== (allowed ? model.remaining(at) : 0)) return 'remaining'
        if (allowed ? retryMs !== 0 : !(retryMs > 0)) return 'retryMs'
        if (windows.some(({ limit }) => cost > limit)) return null // never passes
        if (!allowed && (model.wouldPass(at + retryMs - 1, cost) || !model.wouldPass(at + retryMs, cost))) return 'retryMs is not exact'
        const isLeft = (ms: number) => model.used(windows[window]!, at + ms) > 0n
        return isLeft(resetMs) || !isLeft(resetMs - 1) ? 'resetMs' : null
      }

      for (let i = 0; i < STEPS; i++) {
        clock.ms += step(widest)
        const cost = costOf()
        const violated = model.refusing(clock.ms, cost)
        const seen = cost === 1 && upTo(10) === 1 ? await counter.peek('a') : null
        const decision = await counter.take('a', cost)
        if (violated.length === 0) model.count(clock.ms, cost)
        const fault = seen !== null && !isDeepStrictEqual(seen, decision) ? 'peek' : faultOf(decision, cost, violated)
        if (fault !== null) {
          t.fail(`seed ${seed}, step ${i}: ${fault}`, { windows, cost, violated, seen, decision, remaining: model.remaining(clock.ms) })
          return
        }
        if (decision.allowed) passed += 1
        else refused += 1
        // The counter itself holds to what it said, every now and then.
        if (decision.allowed || windows.some(({ limit }) => cost > limit) || upTo(3) > 1) continue
        clock.ms += decision.retryMs - 1
        if ((await counter.take('a', cost)).allowed) t.fail(`seed ${seed}, step ${i}: passed a millisecond early`)
        clock.ms += 1
        if (!(await counter.take('a', cost)).allowed) t.fail(`seed ${seed}, step ${i}: did not pass when it was said`)
        model.count(clock.ms, cost)
      }
      for (const { limit, ms } of windows) worst = Math.max(worst, model.busiest(ms) / limit)
    }
    t.ok(passed > 10 * rounds && refused > 10 * rounds, `${passed} passed, ${refused} were refused`)
    t.ok(worst <= BUSIEST[algorithm], `the busiest span had ${worst.toFixed(2)} × its limit`)
    t.ok(algorithm === 'fixed' || algorithm === 'log' || worst < 2)
  }
}

/** A small generator of its own, so that a run that fails can be run again. */
function randomFrom (seed: number): () => number {
  let a = seed
  return () => {
    a = (a + 0x6d2b79f5) | 0
    let x = Math.imul(a ^ (a >>> 15), 1 | a)
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x
    return ((x ^ (x >>> 14)) >>> 0) / 4294967296
  }
}
