/** What is told of many measurements: the middle one, and how far they lie apart. */

export interface Spread { median: number, q1: number, q3: number }

export function median (values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

/** The value below which so large a share (0 to 1) of the others lies. */
export function quantile (values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]!
}

/** Median and quartiles. */
export function spread (values: readonly number[], digits: number): Spread {
  return { median: rounded(median(values), digits), q1: rounded(quantile(values, 0.25), digits), q3: rounded(quantile(values, 0.75), digits) }
}

export function rounded (value: number, digits = 2): number {
  return Number(value.toFixed(digits))
}
