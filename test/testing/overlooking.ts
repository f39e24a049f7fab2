/** Services that are honest, and the same with a flaw where one easily looks past it. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { AttackOptions, FamilyName, FindingId, Policy } from '../../plugins/testing/index.js'
import { subOf } from './plain.js'
import { signedIn } from './refusing.js'

interface Overlooked {
  what: string
  finds: FindingId
  routes: Policy['routes']
  serve: (app: FastifyInstance, isFlawed: boolean) => void
  options?: AttackOptions
  families: FamilyName[]
}

const none = (reply: FastifyReply) => reply.code(404).send({ error: 'none' })
const ACCOUNTS: Readonly<Record<string, { owner: string, total: number }>> = { 'a-1': { owner: 'ada', total: 10 }, 'b-1': { owner: 'bob', total: 20 } }
const accounts = { accountId: { ada: 'a-1', bob: 'b-1' } }
const AccountId = { type: 'object', additionalProperties: false, required: ['accountId'], properties: { accountId: { type: 'string', maxLength: 10 } } }

/** Answers an account of the caller's own, or anybody's where it is flawed. */
function account (id: string, request: FastifyRequest, reply: FastifyReply, isFlawed: boolean) {
  const found = ACCOUNTS[id]
  return found === undefined || (found.owner !== subOf(request) && !isFlawed) ? none(reply) : reply.send({ total: found.total })
}

export const OVERLOOKED: readonly Overlooked[] = [
  {
    what: 'a document of somebody else, in a folder of the caller’s own',
    finds: 'authorization.object',
    routes: { 'GET /folders/:folderId/documents/:documentId': { access: { resource: 'document' } } },
    serve: (app, isFlawed) => {
      const documents: Record<string, string> = { 'd-1': 'ada', 'd-2': 'bob' }
      app.get<{ Params: { folderId: string, documentId: string } }>('/folders/:folderId/documents/:documentId', { onRequest: signedIn }, (request, reply) => {
        const { folderId, documentId } = request.params
        const isOwn = folderId === `f-${subOf(request)}` && (isFlawed ? documents[documentId] !== undefined : documents[documentId] === subOf(request))
        return isOwn ? reply.send({ text: documents[documentId] }) : none(reply)
      })
    },
    options: { objects: { folderId: { ada: 'f-ada', bob: 'f-bob' }, documentId: { ada: 'd-1', bob: 'd-2' } } },
    families: ['authorization'],
  },
  {
    what: 'an id in the query',
    finds: 'authorization.object',
    routes: { 'GET /statement': { access: 'user', query: AccountId } },
    serve: (app, isFlawed) => { app.get<{ Querystring: { accountId: string } }>('/statement', { onRequest: signedIn }, (request, reply) => account(request.query.accountId, request, reply, isFlawed)) },
    options: { objects: accounts },
    families: ['authorization'],
  },
  {
    what: 'an id in a query that only narrows a list',
    finds: 'authorization.object',
    routes: { 'GET /totals': { access: 'user', query: { ...AccountId, required: [] } } },
    serve: (app, isFlawed) => {
      app.get<{ Querystring: { accountId?: string } }>('/totals', { onRequest: signedIn }, async request => Object.entries(ACCOUNTS)
        .filter(([id, { owner }]) => (isFlawed || owner === subOf(request)) && id === (request.query.accountId ?? id)).map(([, { total }]) => ({ total })))
    },
    options: { objects: accounts },
    families: ['authorization'],
  },
  {
    what: 'an id in the body',
    finds: 'authorization.object',
    routes: { 'POST /statement': { access: { resource: 'account' }, body: AccountId } },
    serve: (app, isFlawed) => { app.post<{ Body: { accountId: string } }>('/statement', { onRequest: signedIn, schema: { body: AccountId } }, (request, reply) => account(request.body.accountId, request, reply, isFlawed)) },
    options: { objects: accounts },
    families: ['authorization'],
  },
  {
    what: 'a list of everybody’s',
    finds: 'authorization.object',
    routes: { 'GET /accounts': { access: { resource: 'account' } }, 'GET /accounts/:accountId': { access: { resource: 'account' } } },
    serve: (app, isFlawed) => {
      app.get('/accounts', { onRequest: signedIn }, async request => Object.entries(ACCOUNTS).filter(([, { owner }]) => isFlawed || owner === subOf(request)).map(([id, { total }]) => ({ id, total })))
      app.get<{ Params: { accountId: string } }>('/accounts/:accountId', { onRequest: signedIn }, (request, reply) => account(request.params.accountId, request, reply, false))
    },
    options: { objects: accounts },
    families: ['authorization'],
  },
]
