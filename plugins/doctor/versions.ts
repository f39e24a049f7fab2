/** Versions and ranges, as far as advisories write them: comparisons side by side, alternatives between `||`. */

/** Numbers of `1.2.3-beta.4`; what is before a release comes before it. Null where it is no version. */
function parts (version: string): { numbers: number[], isBefore: boolean } | null {
  const [, major, minor, patch, before] = /^v?(\d+)(?:\.(\d+))?(?:\.(\d+))?(-[^+]+)?/.exec(version.trim()) ?? []
  return major === undefined ? null : { numbers: [major, minor ?? '0', patch ?? '0'].map(Number), isBefore: before !== undefined }
}

/** Below zero where `one` is the older one. */
export function compareVersions (one: string, other: string): number {
  const [left, right] = [parts(one), parts(other)]
  if (left === null || right === null) return NaN
  for (let i = 0; i < 3; i++) if (left.numbers[i] !== right.numbers[i]) return left.numbers[i]! - right.numbers[i]!
  return Number(right.isBefore) - Number(left.isBefore)
}

/** Whether a version is in a range such as `<4.29.1 || >=5.0.0 <5.3.2`; one that cannot be read holds every version. */
export function isIn (version: string, range: string): boolean {
  return range.split('||').some(alternative => [...alternative.matchAll(/(<=|>=|<|>|=)?\s*(v?\d[^\s,]*|\*)/g)].every(([, sign = '=', limit = '*']) => {
    if (limit === '*') return true
    const order = compareVersions(version, limit)
    if (Number.isNaN(order)) return true
    return sign === '<' ? order < 0 : sign === '<=' ? order <= 0 : sign === '>' ? order > 0 : sign === '>=' ? order >= 0 : order === 0
  }))
}
