/** What the concerns promise of a route, in words: for tables that people read. */
import { acceptedBy, type Access, type StepUp } from '../access/rule.js'

export interface Words {
  /** Whom it is for, roughly. */
  group: 'anybody' | 'signed in' | 'permission' | 'role' | 'own'
  who: string
  via: string
  limits: string
  body: string
  answers: string
  audit: string
  headers: string
}

/** As the concerns promise it; those that say nothing of a route are not among them. */
interface Controls {
  access?: Access
  resource?: { hidden: boolean, override: string[] }
  identity?: { credentials: string[] }
  csrf?: false | { check: 'token' | 'origin', of: 'cookies' | 'all' }
  dpop?: { required: boolean }
  limits?: false | { windows?: false | string[], plans?: Record<string, string[]>, address?: false | string[], principal?: false | string[], by: string | string[], algorithm: string, cost?: number }
  validation?: { body: 'closed' | null, mediaTypes?: string[] }
  uploads?: { kinds: string[], maxBytes: number }
  cards?: false | 'cards' | 'strict'
  exposure?: 'raw' | { statuses: string[], sights?: Record<string, string[]>, open?: Record<string, string[]> }
  encryption?: { fields: string[] }
  versions?: { status: string, sunset?: string }
  audit?: string | { type: string, durable: boolean }
  headers?: false | Record<string, string>
}

const ALGORITHMS: Readonly<Record<string, string>> = { bucket: 'token bucket', sliding: 'sliding windows', fixed: 'fixed windows', log: 'exact log' }

export function wordsFor (all: Record<string, unknown>): Words {
  const controls = all as Controls
  const access = controls.access ?? 'public'
  return {
    group: groupOf(access),
    who: whoOf(access, controls),
    via: viaOf(access, controls),
    limits: limitsOf(controls),
    body: bodyOf(controls),
    answers: answersOf(controls),
    audit: auditOf(controls),
    headers: headersOf(controls),
  }
}

function groupOf (access: Access): Words['group'] {
  if (access === 'public') return 'anybody'
  if (access === 'user') return 'signed in'
  if (access.resource !== undefined) return 'own'
  if (access.permissions !== undefined) return 'permission'
  return access.roles === undefined ? 'signed in' : 'role'
}

function whoOf (access: Access, { resource }: Controls): string {
  if (access === 'public') return 'anybody'
  if (access === 'user') return 'whoever is signed in'
  const { roles, permissions, resource: object, action = 'read', stepUp } = access
  return [
    ...roles === undefined ? [] : [`role ${[roles].flat().join(' or ')}`],
    ...permissions === undefined ? [] : [`permission ${[permissions].flat().join(' and ')}`],
    ...object === undefined ? [] : [`who may ${action} this ${object}`],
    ...resource === undefined || resource.override.length === 0 ? [] : [`or role ${resource.override.join(' or ')}`],
    ...resource?.hidden === true ? ['to others it is not there'] : [],
    ...(roles ?? permissions ?? object) === undefined ? ['whoever is signed in'] : [],
    ...stepUp === undefined || stepUp === false ? [] : [proofOf(stepUp)],
  ].join(', ')
}

function proofOf (stepUp: true | StepUp): string {
  const { maxAge = stepUp === true ? 300 : undefined, factors }: { maxAge?: number, factors?: unknown } = stepUp === true ? {} : stepUp
  return [...maxAge === undefined ? [] : [`proven in the last ${maxAge} s`], ...factors === undefined ? [] : [`by ${[factors].flat().join(' and ')}`]].join(' ')
}

function viaOf (access: Access, { identity, csrf, dpop }: Controls): string {
  const crossSite = csrf === undefined || csrf === false ? '' : csrf.check === 'token' ? 'CSRF token' : 'own origin'
  if (access === 'public') return crossSite === '' || (csrf !== false && csrf?.of === 'cookies') ? 'nothing is needed' : `nothing is needed; ${crossSite}`
  const accepted = acceptedBy(access).filter(name => identity?.credentials.includes(name) ?? true)
  return accepted.map(name => name === 'session' && crossSite !== '' ? `session with ${crossSite}` : name === 'bearer' && dpop?.required === true ? 'bearer with proof of its key' : name).join(', ')
}

function limitsOf ({ limits }: Controls): string {
  if (limits === undefined || limits === false) return 'none'
  const { windows, plans, address, principal, by, algorithm, cost = 1 } = limits
  const list = (given: false | string[] | undefined) => given === undefined || given === false ? 'none' : given.join(', ')
  if (address !== undefined || principal !== undefined) return `${list(address)} an address, ${list(principal)} a caller, shared`
  const terms = plans === undefined ? list(windows) : Object.entries(plans).map(([plan, given]) => `${plan}: ${list(given)}`).join('; ')
  return `${terms} by ${[by].flat().join(' and ')} (${ALGORITHMS[algorithm] ?? algorithm}${cost > 1 ? `, each costs ${cost}` : ''})`
}

function bodyOf ({ validation, uploads, cards }: Controls): string {
  if (uploads !== undefined) return `${uploads.kinds.join(', ')} of up to ${uploads.maxBytes / 1_048_576} MiB`
  if (validation?.body !== 'closed') return validation === undefined ? 'not validated' : 'none'
  return `closed: ${(validation.mediaTypes ?? []).join(', ')}${cards === 'strict' ? ', no card numbers' : ''}`
}

function answersOf ({ exposure, encryption, versions }: Controls): string {
  if (versions?.status === 'gone') return `410 since ${versions.sunset!.slice(0, 10)}`
  if (exposure === undefined) return 'not filtered'
  if (exposure === 'raw') return 'a page, file or stream: not filtered'
  const sights = [...new Set(Object.values(exposure.sights ?? {}).flat())]
  return [
    `${exposure.statuses.join(', ')} by its schema`,
    ...sights.length === 0 ? [] : [`some fields for ${sights.join(' or ')} alone`],
    ...exposure.open === undefined ? [] : ['some of it open, for a reason'],
    ...encryption === undefined ? [] : ['some of it kept encrypted'],
  ].join('; ')
}

function auditOf ({ audit }: Controls): string {
  if (audit === undefined) return 'refusals'
  return typeof audit === 'string' ? audit : `${audit.type}${audit.durable ? ', before it answers' : ''}`
}

function headersOf ({ headers }: Controls): string {
  if (headers === undefined || headers === false) return 'none'
  const policy = headers['content-security-policy'] ?? ''
  return [
    /script-src/.test(policy) ? 'a page: code with its nonce alone' : 'nothing may load',
    ...headers['cache-control'] === undefined ? [] : [headers['cache-control']],
    ...headers['clear-site-data'] === undefined ? [] : ['clears the site'],
  ].join(', ')
}
