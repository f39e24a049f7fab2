/** Roles, expanded once at boot into the permissions that each really has. */

export interface RoleDefinition {
  /** Roles whose permissions this one has too. */
  inherits?: readonly string[]
  /** Permissions; `*` is every permission, `posts:*` every one that begins with `posts:`. */
  permissions?: readonly string[]
}

export interface ExpandedRoles {
  /** Every permission that is named anywhere. */
  permissions: ReadonlySet<string>
  roles: ReadonlyMap<string, ReadonlySet<string>>
}

/**
 * Expands inheritance and wildcards.
 *
 * @param known permissions that no role names literally, because only wildcards give them
 * @throws TypeError that names an unknown or circular inheritance
 */
export function expandRoles (definitions: Readonly<Record<string, RoleDefinition>>, known: readonly string[]): ExpandedRoles {
  const permissions = new Set(known)
  for (const { permissions: own = [] } of Object.values(definitions)) {
    for (const permission of own) if (!permission.includes('*')) permissions.add(permission)
  }
  const roles = new Map<string, ReadonlySet<string>>()

  function expand (name: string, path: readonly string[]): ReadonlySet<string> {
    const done = roles.get(name)
    if (done !== undefined) return done
    if (path.includes(name)) throw new TypeError(`access: roles: ${[...path, name].join(' → ')} inherits from itself`)
    const definition = Object.hasOwn(definitions, name) ? definitions[name] : undefined
    if (definition === undefined) throw new TypeError(`access: roles: ${path.at(-1)} inherits from ${name}, which is not a role`)
    const granted = new Set<string>()
    for (const parent of definition.inherits ?? []) for (const permission of expand(parent, [...path, name])) granted.add(permission)
    for (const pattern of definition.permissions ?? []) for (const permission of matching(pattern, permissions)) granted.add(permission)
    roles.set(name, granted)
    return granted
  }

  for (const name of Object.keys(definitions)) expand(name, [])
  return { permissions, roles }
}

/** The permissions that a pattern stands for: itself, or all under its prefix. */
function matching (pattern: string, permissions: ReadonlySet<string>): readonly string[] {
  if (!pattern.includes('*')) return [pattern]
  const prefix = pattern.slice(0, -1)
  if (pattern.indexOf('*') !== pattern.length - 1 || (prefix !== '' && !prefix.endsWith(':'))) {
    throw new TypeError(`access: roles: ${JSON.stringify(pattern)} is not a permission, 'name:*' or '*'`)
  }
  return [...permissions].filter(permission => permission.startsWith(prefix))
}
