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
  const holders = new Map<string, Set<string>>(Object.keys(definitions).map(name => [name, new Set()]))
  const matched = new Map<string, ReadonlySet<string>>()
  const path = new Set<string>()

  function expand (name: string, heir: string | undefined): void {
    if (roles.has(name)) return
    if (path.has(name)) throw new TypeError(`access: roles: ${[...path, name].join(' → ')} inherits from itself`)
    const definition = Object.hasOwn(definitions, name) ? definitions[name] : undefined
    if (definition === undefined) throw new TypeError(`access: roles: ${heir} inherits from ${name}, which is not a role`)
    const { inherits = [], permissions: patterns = [] } = definition
    path.add(name)
    for (const parent of inherits) expand(parent, name)
    path.delete(name)
    roles.set(name, union([...inherits.map(parent => roles.get(parent)!), ...patterns.map(matching)]))
    const lineage = union([new Set([name]), ...inherits.map(parent => lineages.get(parent)!)])
    lineages.set(name, lineage)
    for (const ancestor of lineage) holders.get(ancestor)!.add(name)
  }

  /** The permissions that a pattern stands for; looked for once, however many roles have it. */
  function matching (pattern: string): ReadonlySet<string> {
    const known = matched.get(pattern) ?? permissionsLike(pattern, permissions)
    matched.set(pattern, known)
    return known
  }

  for (const name of Object.keys(definitions)) expand(name, undefined)
  return { permissions, roles, holders }
}

/** What is in any of these; what is the same as one of them is that one, so that thousands of roles may share it. */
export function union (sets: readonly ReadonlySet<string>[]): ReadonlySet<string> {
  const different = [...new Set(sets)]
  if (different.length === 1) return different[0]!
  const all = new Set<string>()
  for (const set of different) for (const name of set) all.add(name)
  return all
}

/** The permissions that a pattern stands for: itself, or all under its prefix. */
function permissionsLike (pattern: string, permissions: ReadonlySet<string>): ReadonlySet<string> {
  if (!pattern.includes('*')) return new Set([pattern])
  const prefix = pattern.slice(0, -1)
  if (pattern.indexOf('*') !== pattern.length - 1 || (prefix !== '' && !prefix.endsWith(':'))) {
    throw new TypeError(`access: roles: ${JSON.stringify(pattern)} is not a permission, 'name:*' or '*'`)
  }
  const granted = [...permissions].filter(permission => permission.startsWith(prefix))
  // What is misspelt gives nothing, and nobody would see why.
  if (granted.length === 0 && prefix !== '') throw new TypeError(`access: roles: ${JSON.stringify(pattern)} stands for no known permission`)
  return new Set(granted)
}
