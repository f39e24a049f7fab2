/** What the small service promises, written down once more: every route that it has. */
import type { Policy } from '../../plugins/testing/index.js'
import { QUOTA } from './quotas.js'

export const POLICY: Policy = {
  headers: false,
  routes: {
    'GET /notes/:noteId': { resource: 'note' },
    'PUT /notes/:noteId': { resource: 'note' },
    'DELETE /notes/:noteId': { resource: 'note' },
    'POST /notes': { permissions: 'notes:write' },
    'GET /people/:personId': {
      access: 'user',
      answers: { 200: { type: 'object', additionalProperties: false, properties: { id: {}, name: {}, bio: {}, email: { type: 'string', visibleTo: ['owner', 'people:private'] } } } },
    },
    'GET /reports': { permissions: 'reports:read' },
    'POST /people/:personId/ban': { roles: 'admin', stepUp: true },
    'GET /search': 'public',
    'GET /quota': { access: { via: ['bearer', 'session', 'key'] }, limits: { ...QUOTA, by: 'caller' } },
    'POST /keys': 'user',
    'POST /session': { access: 'public', conceals: 'name' },
    'POST /tickets': { access: 'public', once: true },
    'POST /accounts': 'public',
    'POST /forgot': 'public',
    'DELETE /me': 'user',
  },
}
