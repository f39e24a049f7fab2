/** Chance that is the same for the same seed. */
export interface Random {
  /** At least 0 and less than 1. */
  next: () => number
  below: (limit: number) => number
  pick: <T>(list: readonly T[]) => T
  /** At most so many of the list, in its order. */
  some: <T>(list: readonly T[], count: number) => T[]
  text: (length: number) => string
}

const LETTERS = 'abcdefghijklmnopqrstuvwxyz0123456789'

/** Mulberry32. */
export function randomOf (seed: number): Random {
  let state = seed >>> 0
  const next = () => {
    state = (state + 0x6D2B79F5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
  const below = (limit: number) => Math.floor(next() * limit)
  return {
    next,
    below,
    pick: list => list[below(list.length)]!,
    text: length => Array.from({ length }, () => LETTERS[below(LETTERS.length)]).join(''),
    some (list, count) {
      if (list.length <= count) return [...list]
      const left = [...list.keys()]
      const taken = Array.from({ length: count }, () => left.splice(below(left.length), 1)[0]!)
      return taken.sort((a, b) => a - b).map(i => list[i]!)
    },
  }
}
