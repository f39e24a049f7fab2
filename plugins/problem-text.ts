/** The text of a problem. Refusals that say the same but for the request id are serialised once: floods of them are to cost little (CWE-400). */
import { randomBytes } from 'node:crypto'
import fastJson from 'fast-json-stringify'
import { Problem } from '../schemas/problem.js'
import type { ProblemMembers } from './problem.js'

/** What stands before and after the request id. */
interface Known { problem: Problem, before: string, after: string }

const serialize = fastJson(Problem as never) as (problem: Problem) => string
/** Request ids that stand in JSON as they are. */
const PLAIN_ID = /^[\w-]{1,64}$/
const PLACE = randomBytes(16).toString('hex')
/** Texts that are kept; of a code whose messages differ one is. */
const MAX_KNOWN = 1000

const byCode = new Map<string, Known>()
const byMembers = new WeakMap<ProblemMembers, Known>()

/** @param members what the error says beyond its message; frozen where many errors share it */
export function textOf (problem: Problem, members?: ProblemMembers): string {
  const { requestId } = problem
  if (requestId === undefined || !PLAIN_ID.test(requestId)) return serialize(problem)
  const known = members === undefined ? byCode.get(problem.code) : byMembers.get(members)
  if (known === undefined) keep(problem, members)
  else if (isAlike(known.problem, problem)) return known.before + requestId + known.after
  return serialize(problem)
}

function keep (problem: Problem, members: ProblemMembers | undefined): void {
  if (problem.errors !== undefined || (members === undefined ? byCode.size >= MAX_KNOWN : !Object.isFrozen(members))) return
  const [before, after, ...more] = serialize({ ...problem, requestId: PLACE }).split(PLACE)
  if (before === undefined || after === undefined || more.length > 0) return
  if (members === undefined) byCode.set(problem.code, { problem, before, after })
  else byMembers.set(members, { problem, before, after })
}

/** Of the same code or the same members. */
function isAlike (known: Problem, { code, detail, status, errors }: Problem): boolean {
  return known.code === code && known.detail === detail && known.status === status && errors === undefined
}
