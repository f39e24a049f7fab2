/** Roles, expanded once at boot into the permissions that each really has. */

export interface RoleDefinition {
  /** Roles whose permissions this one has too; it also passes where one of them is asked for. */
  inherits?: readonly string[]
  /** Permissions; `*` is every permission, `posts:*` every one that begins with `posts:`. */
  permissions?: readonly string[]
}

export interface ExpandedRoles {
  /** Every permission that is named anywhere. */
  permissions: ReadonlySet<string>
  /** The permissions of each role. */
  roles: ReadonlyMap<string, ReadonlySet<string>>
  /** For each role, the roles that have it: itself, and all that inherit from it. */
  holders: ReadonlyMap<string, ReadonlySet<string>>
}

/** What a name of a permission may hold: no star, no blank. */
const PERMISSION = /^[^\s*]{1,100}$/

/**
 * Expands inheritance and wildcards.
 *
 * @param known permissions that no role names literally, because only wildcards give them
 * @throws TypeError that names an unknown or circular inheritance, or a wildcard that is malformed or stands for nothing
 */
export function expandRoles (definitions: Readonly<Record<string, RoleDefinition>>, known: readonly string[]): ExpandedRoles {
  const permissions = new Set(known)
  for (const { permissions: own = [] } of Object.values(definitions)) {
    for (const permission of own) if (!permission.includes('*')) permissions.add(permission)
  }
  for (const permission of permissions) {
    if (!PERMISSION.test(permission)) throw new TypeError(`access: permissions: ${JSON.stringify(permission)} is not a name of a permission`)
  }
  const roles = new Map<string, ReadonlySet<string>>()
  const lineages = new Map<string, ReadonlySet<string>>()

  function expand (name: string, path: readonly string[]): void {
    if (roles.has(name)) return
    if (path.includes(name)) throw new TypeError(`access: roles: ${[...path, name].join(' → ')} inherits from itself`)
    const definition = Object.hasOwn(definitions, name) ? definitions[name] : undefined
    if (definition === undefined) throw new TypeError(`access: roles: ${path.at(-1)} inherits from ${name}, which is not a role`)
    const granted = new Set<string>()
    const lineage = new Set([name])
    for (const parent of definition.inherits ?? []) {
      expand(parent, [...path, name])
      for (const permission of roles.get(parent)!) granted.add(permission)
      for (const ancestor of lineages.get(parent)!) lineage.add(ancestor)
    }
    for (const pattern of definition.permissions ?? []) for (const permission of matching(pattern, permissions)) granted.add(permission)
    roles.set(name, granted)
    lineages.set(name, lineage)
  }

  const names = Object.keys(definitions)
  for (const name of names) expand(name, [])
  const holders = new Map(names.map(name => [name, new Set(names.filter(heir => lineages.get(heir)!.has(name)))]))
  return { permissions, roles, holders }
}

/** The permissions that a pattern stands for: itself, or all under its prefix. */
function matching (pattern: string, permissions: ReadonlySet<string>): readonly string[] {
  if (!pattern.includes('*')) return [pattern]
  const prefix = pattern.slice(0, -1)
  if (pattern.indexOf('*') !== pattern.length - 1 || (prefix !== '' && !prefix.endsWith(':'))) {
    throw new TypeError(`access: roles: ${JSON.stringify(pattern)} is not a permission, 'name:*' or '*'`)
  }
  const granted = [...permissions].filter(permission => permission.startsWith(prefix))
  // What is misspelt gives nothing, and nobody would see why.
  if (granted.length === 0 && prefix !== '') throw new TypeError(`access: roles: ${JSON.stringify(pattern)} stands for no known permission`)
  return granted
}
