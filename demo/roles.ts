/** Who may do what in the portal: the names of the contract, typed for every route. */
import type { ApiKey } from '../plugins/api-keys/index.js'
import type { UploadRecord } from '../plugins/uploads/index.js'
import type { RoleDefinition } from '../plugins/access/roles.js'
import type { DocumentRow, OrderRow, PatientRow, PostRow, RoleName, UserRow } from './data/tables.js'

export const ROLES = {
  guest: { permissions: ['posts:read'] },
  user: { inherits: ['guest'], permissions: ['posts:write', 'documents:write', 'data:read'] },
  moderator: { inherits: ['user'], permissions: ['posts:delete', 'users:read', 'tools:ping'] },
  manager: { inherits: ['user'], permissions: ['users:read', 'users:write', 'reports:read', 'tools:ping'] },
  nurse: { inherits: ['user'], permissions: ['patients:read'] },
  doctor: { inherits: ['nurse'], permissions: ['patients:read:clinical', 'patients:write'] },
  admin: { permissions: ['*'] },
} as const satisfies Record<RoleName, RoleDefinition>

/** What only the wildcard of the admin gives. */
export const ADMIN_PERMISSIONS = ['users:delete', 'users:read:private', 'audit:read', 'posture:read', 'metrics:read', 'tokens:introspect'] as const

type Named<Definitions> = Definitions extends Record<string, { permissions: readonly (infer Name)[] }> ? Name : never

declare module '../plugins/access/index.js' {
  interface AccessNames {
    role: RoleName
    permission: Exclude<Named<typeof ROLES>, '*'> | typeof ADMIN_PERMISSIONS[number]
    resources: { user: UserRow, post: PostRow, document: DocumentRow, order: OrderRow, ownOrders: UserRow, apiKey: ApiKey, file: UploadRecord, patient: PatientRow }
  }
}
