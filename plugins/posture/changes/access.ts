/** Who may call a route, and how they must have proved who they are. */
import { listOf, ranked, stronger, weaker, without, type Note } from './note.js'

interface Rule { roles?: string | string[], permissions?: string | string[], resource?: string, action?: string, via?: string[], stepUp?: boolean | { maxAge?: number, factors?: string | string[] } }
interface Proof { required?: boolean, nonce?: boolean, algorithms?: string[] }
type Access = 'public' | 'user' | Rule | undefined

/** Seconds that `stepUp: true` stands for. */
const STEP_UP = 300

/** `permission posts:write, stepUp 300 s`. */
export function accessInWords (access: unknown): string {
  if (access === 'public' || access === undefined) return 'nobody in particular'
  const { roles, permissions, resource, action = 'read', via, stepUp } = ruleOf(access as Access)
  const asked = stepUpOf(stepUp)
  const words = [
    ...listOf(permissions).map(name => `permission ${name}`),
    ...listOf(roles).length > 0 ? [`role ${listOf(roles).join(' or ')}`] : [],
    ...resource !== undefined ? [`${action} on the ${resource}`] : [],
    ...via !== undefined ? [`a credential of kind ${via.join(' or ')}`] : [],
    ...asked !== null ? [`a step-up${asked.maxAge === Infinity ? '' : ` within ${asked.maxAge} s`}${asked.factors.length > 0 ? ` by ${asked.factors.join(' and ')}` : ''}`] : [],
  ]
  return words.length > 0 ? words.join(', ') : 'a signed-in user'
}

export function accessChanges (was: unknown, is: unknown): Note[] {
  const [before, after] = [was, is] as [Access, Access]
  const [isOpen, wasOpen] = [after, before].map(access => access === 'public' || access === undefined)
  if (isOpen && wasOpen) return []
  if (isOpen) return [weaker(`is public now: it asked for ${accessInWords(before)}`)]
  if (wasOpen) return [stronger(`is no longer public: it asks for ${accessInWords(after)}`)]
  const [old, now] = [ruleOf(before), ruleOf(after)]
  const notes: Note[] = []
  const [had, has] = [listOf(old.permissions), listOf(now.permissions)]
  for (const name of without(had, has)) notes.push(weaker(`no longer asks for permission ${name}`))
  for (const name of without(has, had)) notes.push(stronger(`asks for permission ${name}`))
  const [roles, rolesNow] = [listOf(old.roles), listOf(now.roles)]
  if (roles.length > 0 && rolesNow.length === 0) notes.push(weaker(`no longer asks for role ${roles.join(' or ')}`))
  else if (roles.length === 0 && rolesNow.length > 0) notes.push(stronger(`asks for role ${rolesNow.join(' or ')}`))
  else {
    for (const role of without(rolesNow, roles)) notes.push(weaker(`role ${role} may call it too`))
    for (const role of without(roles, rolesNow)) notes.push(stronger(`role ${role} may call it no longer`))
  }
  return [...notes, ...objectChanges(old, now), ...kindChanges(old, now), ...stepUpChanges(stepUpOf(old.stepUp), stepUpOf(now.stepUp))]
}

function objectChanges (old: Rule, now: Rule): Note[] {
  const [before, after] = [old, now].map(({ resource, action = 'read' }) => resource === undefined ? null : `${action} on the ${resource}`)
  if (before === after) return []
  if (before === null) return [stronger(`asks for ${after}`)]
  return [weaker(after === null ? `no longer asks whether the caller may ${before}` : `asks for ${after} instead of ${before}`)]
}

/** Which kinds pass where a route names none is a matter of its other rules. */
function kindChanges (old: Rule, now: Rule): Note[] {
  if (old.via === undefined && now.via === undefined) return []
  const [before, after] = [kindsOf(old), kindsOf(now)]
  return [
    ...without(after, before).map(kind => weaker(`takes credentials of kind ${kind} too`)),
    ...without(before, after).map(kind => stronger(`takes credentials of kind ${kind} no longer`)),
  ]
}

function kindsOf ({ via, permissions }: Rule): string[] {
  return via ?? ['bearer', 'session', ...listOf(permissions).length > 0 ? ['key', 'certificate'] : []]
}

function stepUpChanges (before: { maxAge: number, factors: string[] } | null, after: { maxAge: number, factors: string[] } | null): Note[] {
  if (before === null) return after === null ? [] : [stronger('asks for a step-up')]
  if (after === null) return [weaker('no longer asks for a step-up')]
  return [
    ...after.maxAge > before.maxAge ? [weaker(`a step-up is good for ${after.maxAge === Infinity ? 'ever' : `${after.maxAge} s`} (${before.maxAge} s before)`)] : [],
    ...after.maxAge < before.maxAge ? [stronger(`a step-up is good for ${after.maxAge} s only`)] : [],
    ...without(before.factors, after.factors).map(factor => weaker(`a step-up no longer asks for the factor ${factor}`)),
    ...without(after.factors, before.factors).map(factor => stronger(`a step-up asks for the factor ${factor}`)),
  ]
}

export function resourceChanges (was: unknown, is: unknown): Note[] {
  if (was === undefined || is === undefined) return [] // told with the access rule that names it
  const [before, after] = [was, is] as { hidden: boolean, override: string[], custom?: true }[]
  return [
    ...before!.custom !== after!.custom ? [after!.custom ? weaker('a rule of its own may let in who does not own the object') : stronger('no rule of its own lets in who does not own the object')] : [],
    ...before!.hidden && !after!.hidden ? [weaker('tells strangers that the object exists (hidden: false)')] : [],
    ...!before!.hidden && after!.hidden ? [stronger('hides the object from strangers')] : [],
    ...without(listOf(after!.override), listOf(before!.override)).map(name => weaker(`whoever holds ${name} passes without owning the object`)),
    ...without(listOf(before!.override), listOf(after!.override)).map(name => stronger(`whoever holds ${name} passes no longer without owning the object`)),
  ]
}

export function proofChanges (was: unknown, is: unknown): Note[] {
  const [before, after] = [was, is].map(promise => promise ?? {}) as [Proof, Proof]
  if (before.required === true && after.required !== true) return [weaker('takes tokens without a proof of possession (DPoP)')]
  if (before.required !== true && after.required === true) return [stronger('asks for a proof of possession (DPoP)')]
  return [
    ...before.nonce === true && after.nonce !== true ? [weaker('takes proofs of possession without a nonce')] : [],
    ...before.nonce !== true && after.nonce === true ? [stronger('asks for proofs of possession with a nonce')] : [],
    ...without(listOf(after.algorithms), listOf(before.algorithms)).map(name => weaker(`takes proofs of possession signed by ${name} too`)),
    ...without(listOf(before.algorithms), listOf(after.algorithms)).map(name => stronger(`takes proofs of possession signed by ${name} no longer`)),
  ]
}

export function identityChanges (was: unknown, is: unknown): Note[] {
  const [before, after] = [was, is].map(promise => (promise as { credentials?: string[] } | undefined)?.credentials ?? [])
  return [
    ...without(after!, before!).map(name => weaker(`another way to say who one is: ${name}`)),
    ...without(before!, after!).map(name => stronger(`credentials of kind ${name} are read no longer`)),
  ]
}

export function clientChanges (was: unknown, is: unknown): Note[] {
  const [before, after] = [was, is].map(promise => String((promise as { clientCertificates?: unknown } | undefined)?.clientCertificates ?? false))
  return ranked(['required', 'asked', 'false'], before!, after!, (old, now) => `certificates of clients: ${now} (${old} before)`)
}

function ruleOf (access: Access): Rule {
  return typeof access === 'object' ? access : {}
}

function stepUpOf (stepUp: Rule['stepUp']): { maxAge: number, factors: string[] } | null {
  if (stepUp === undefined || stepUp === false) return null
  if (stepUp === true) return { maxAge: STEP_UP, factors: [] }
  return { maxAge: stepUp.maxAge ?? Infinity, factors: listOf(stepUp.factors) }
}
