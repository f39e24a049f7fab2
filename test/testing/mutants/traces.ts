/** Mutations of what is left behind: at rest, in the log, in the trail, in mails. */
import type { Mutant } from './table.js'

export const OF_TRACES: readonly Mutant[] = [
  {
    expected: 'traces.stored',
    what: 'keys are kept as they are sent',
    file: 'plugins/api-keys/index.ts',
    from: '      hash,\n      previousHash: null,',
    to: '      hash: text,\n      previousHash: null,',
    on: 'portal',
    only: ['POST /api-keys'],
  },
  {
    expected: 'traces.erased',
    what: 'who is erased is only switched off',
    file: 'demo/privacy.ts',
    from: "erase: (userId, sql) => deleted(sql, build.deleteFrom('users').where('id', '=', userId).returning('id')),",
    to: "erase: (userId, sql) => deleted(sql, build.updateTable('users').set({ is_active: false }).where('id', '=', userId).returning('id')),",
    on: 'portal',
    only: ['DELETE /users/me', 'PATCH /users/me'],
  },
  {
    expected: 'traces.logged',
    what: 'the log tells by what somebody is known',
    file: 'plugins/log.ts',
    from: "request.log.info(line, 'request')",
    to: "request.log.info({ ...line, asked: new String(request.headers.authorization) }, 'request')",
    on: 'portal',
    only: ['GET /users/me'],
  },
  {
    expected: 'traces.unrecorded',
    what: 'refusals are not kept',
    file: 'plugins/audit/index.ts',
    from: 'events.listen(keepEvent)',
    to: "events.listen((event, request) => { if (event.type !== 'access_denied') keepEvent(event, request) })",
    on: 'portal',
    only: ['GET /audit/verify'],
  },
  {
    expected: 'traces.predictable',
    what: 'links of one moment are the same',
    file: 'plugins/tokens/links.ts',
    from: "const nonce = randomBytes(16).toString('base64url')",
    to: "const nonce = 'AAAAAAAAAAAAAAAAAAAAAA'",
    on: 'portal',
    only: ['POST /auth/forgot'],
  },
]
