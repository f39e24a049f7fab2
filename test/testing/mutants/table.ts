/** Mutations: one small edit of the suite or of the demo each, and the finding that it must lead to. */
import type { FamilyName, FindingId, Policy } from '../../../plugins/testing/index.js'
import { OF_ANSWERS } from './answers.js'
import { OF_SEVERAL } from './at-once.js'
import { OF_CALLERS } from './callers.js'
import { OF_INPUT } from './input.js'
import { OF_WHOLES } from './taken.js'
import { OF_TRACES } from './traces.js'

export interface Mutant {
  expected: FindingId
  /** What is wrong now, in a few words. */
  what: string
  /** The edit: of this file, this text, which is there exactly once, and what stands there instead. */
  file: string
  from: string
  to: string
  /** What is attacked: the member portal, or the small service of the tests. */
  on: 'portal' | 'service'
  /** Routes; all where they are left out. */
  only?: readonly string[]
  /** Families of attacks (default: that of the finding). */
  families?: readonly FamilyName[]
  /** What must hold, where the edit changes what is promised too. */
  policy?: Policy
}

export const MUTANTS: readonly Mutant[] = [...OF_CALLERS, ...OF_SEVERAL, ...OF_INPUT, ...OF_WHOLES, ...OF_ANSWERS, ...OF_TRACES]

/** Kinds of finding that no single edit of this repository leads to, and why. */
export const NOT_MUTATED: { readonly [Id in FindingId]?: string } = {
  'answers.head': 'Node itself sends no body in answer to HEAD, whatever a service writes',
  'traces.lines': 'pino writes each line as JSON, whatever is in it: no single edit has it write another',
  'uploads.name': 'names are made here, those that were sent are cleaned, and the storage takes no other: no single edit undoes the three',
  'outbound.reached': 'the portal is attacked as it is while somebody develops it, when webhooks may lead to this machine',
}
