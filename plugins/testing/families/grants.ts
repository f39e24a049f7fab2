/** Rights that somebody hands out and lacks: scopes, permissions and roles in a body, for a key, an account, a share. A part of the authorization family. */
import type { Campaign, Exchange } from '../campaign.js'
import type { Caller } from '../callers.js'
import { READ, branchesOf, propertiesOf, typesOf } from '../schemas.js'
import type { Schema } from '../../references.js'
import type { Route, Surface } from '../surface.js'

const ID = 'authorization.grant'
const NAMED = /^(?:scopes?|permissions?|roles?|grants?|rights|privileges|authorities)$/i
/** Callers and words that are tried on each field. */
const CALLERS = 2
const WORDS = 3

interface Field {
  name: string
  isList: boolean
  /** All that it may hold; null where nothing says it. */
  words: readonly string[] | null
}

export async function tryGrants (campaign: Campaign, route: Route, callers: readonly Caller[]): Promise<void> {
  if (route.body === null || !READ.has(route.body.type) || route.isGone || campaign.isOff(route, ID)) return
  const fields = fieldsOf(route, campaign.surface)
  for (const field of fields) {
    const known = callers.filter(({ principal: { roles, permissions } }) => roles !== undefined || permissions !== undefined)
    const lacking = known.map(caller => ({ caller, words: lackedBy(campaign, caller, field).slice(0, WORDS) })).filter(({ words }) => words.length > 0)
    for (const { caller, words } of lacking.slice(0, CALLERS)) {
      for (const word of words) {
        const shot = await campaign.ofOwn(route, caller.name, body => ({ ...body as object, [field.name]: field.isList ? [word] : word }))
        if (typeof shot === 'string') return campaign.unproven(route, ID, shot)
        const exchange = await campaign.ask({ ...shot, isAllowed: true })
        campaign.check(ID, exchange, !isGranted(exchange, field.name, word), `a refusal: ${caller.name} lacks ${word} and asks for it in ${field.name}`, undefined, field.name)
      }
    }
  }
}

/** Where a role or a permission is asked for, it is what lets its holders give others. */
function fieldsOf ({ body, grants, access }: Route, { rights }: Surface): Field[] {
  if (grants === false) return []
  const asksMore = typeof access === 'object' && access !== null && (access.roles !== undefined || access.permissions !== undefined)
  const known = new Set([...rights.roles, ...rights.permissions])
  return Object.entries(propertiesOf(body!.schema)).flatMap(([name, part]) => {
    const isList = typesOf(part).includes('array')
    const item = isList ? [part.items ?? {}].flat()[0] as Schema : part
    const words = wordsOf(item)
    const isOfRights = words === null ? NAMED.test(name) && (isList || branchesOf(item).flatMap(typesOf).includes('string')) : words.every(word => known.has(word))
    return grants?.includes(name) ?? (isOfRights && !asksMore) ? { name, isList, words } : []
  })
}

function wordsOf (schema: Schema): readonly string[] | null {
  const listed = branchesOf(schema).flatMap(({ const: fixed, enum: words }) => Array.isArray(words) ? words : fixed === undefined ? [] : [fixed]).filter(word => typeof word === 'string')
  return listed.length === 0 ? null : listed
}

/** Rights that the field may hold and the caller has not; of a role, all that it gives. */
function lackedBy ({ judge, surface }: Campaign, { principal }: Caller, { name, words }: Field): string[] {
  const { roles, permissions } = surface.rights
  const can = (permission: string) => judge.can(principal, permission)
  const lacked = [
    ...permissions.filter(permission => !can(permission)),
    ...roles.filter(role => !surface.hasRole(principal.roles ?? [], role) && ![...surface.permissionsOf([role])].every(can)),
  ]
  if (words !== null) return lacked.filter(word => words.includes(word))
  return lacked.filter(word => /role/i.test(name) ? roles.includes(word) : /scope|permission/i.test(name) ? permissions.includes(word) : true)
}

/** Taken; and where the answer tells what was given, it is among that. */
function isGranted ({ status, json }: Exchange, name: string, word: string): boolean {
  if (status >= 400) return false
  const told = ((json ?? {}) as Record<string, unknown>)[name]
  return typeof told === 'string' ? told.split(' ').includes(word) : Array.isArray(told) ? told.includes(word) : true
}
