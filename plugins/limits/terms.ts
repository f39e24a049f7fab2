/** The terms of a budget: windows, plans, algorithm, ban and who spends it. */
import { Type, type Static } from '@sinclair/typebox'
import type { Algorithm as CounterAlgorithm } from '../state/index.js'
import type { By } from './subject.js'

export const Windows = Type.Array(Type.String(), { minItems: 1, maxItems: 8 })
export const Plans = Type.Record(Type.String(), Windows)
export const Algorithm = Type.Unsafe<CounterAlgorithm>(Type.Union([Type.Literal('sliding'), Type.Literal('fixed'), Type.Literal('log'), Type.Literal('bucket')]))
export const BanRule = Type.Object({
  after: Type.Integer({ minimum: 1, description: 'Refusals' }),
  for: Type.String({ description: "A time: '15m', '1h'" }),
}, { additionalProperties: false })
export type BanRule = Static<typeof BanRule>

export interface BudgetTerms {
  windows: readonly string[]
  algorithm: CounterAlgorithm
  ban?: BanRule
}

/** The same name always means the same terms. */
export interface Terms extends Omit<BudgetTerms, 'windows'> {
  /** Of callers without a plan, and of plans that are not listed; false: they have no limit. */
  windows: readonly string[] | false
  plans?: Readonly<Record<string, readonly string[]>>
  by: By
}

/** For people and machines: plain data, without functions. */
export interface DescribedTerms {
  by: string | string[]
  windows: readonly string[] | false
  algorithm: CounterAlgorithm
  plans?: Readonly<Record<string, readonly string[]>>
  ban?: BanRule
}

export function isSameTerms (one: Terms, other: Terms): boolean {
  const [plans, others] = [one.plans ?? {}, other.plans ?? {}]
  return one.algorithm === other.algorithm && one.ban?.after === other.ban?.after && one.ban?.for === other.ban?.for &&
    isSameList(one.windows, other.windows) && isSameList(one.by, other.by) &&
    isSameList(Object.keys(plans).sort(), Object.keys(others).sort()) && Object.keys(plans).every(plan => isSameList(plans[plan], others[plan]))
}

export function isSameList (one: unknown, other: unknown): boolean {
  if (one === other || !Array.isArray(one) || !Array.isArray(other)) return one === other
  return one.length === other.length && one.every((item, i) => item === other[i])
}
