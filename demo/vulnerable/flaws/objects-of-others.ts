/** Whoever knows or counts up an id has the object (CWE-639; API1). `access` loads it and asks whose it is before the handler runs. */
import { createReadStream } from 'node:fs'
import { join } from 'node:path'
import type { Twin } from '../app.js'
import { typeOf } from './believed-uploads.js'

interface Params { documentId: string }

export default function objectsOfOthers ({ app, db, directory, userOf }: Twin): void {
  app.get<{ Params: Params }>('/documents/:documentId', async (request, reply) => {
    await userOf(request)
    const { rows: [document] } = await db.query('select * from documents where id = $1', [Number(request.params.documentId)])
    return document ?? reply.code(404).send({ error: 'No such document' })
  })

  app.post<{ Params: Params, Body: { userId: string, actions: string[] } }>('/documents/:documentId/shares', async (request, reply) => {
    await userOf(request)
    const { userId, actions } = request.body
    await db.query('insert into shares (document_id, user_id, actions) values ($1, $2, $3)', [Number(request.params.documentId), Number(userId), actions])
    return reply.code(201).send({ userId, actions })
  })

  app.get<{ Params: { orderId: string } }>('/orders/:orderId', async (request, reply) => {
    await userOf(request)
    const { rows: [order] } = await db.query('select * from orders where id = $1', [Number(request.params.orderId)])
    return order ?? reply.code(404).send({ error: 'No such order' })
  })

  app.get<{ Params: { userId: string } }>('/users/:userId/orders', async request => {
    await userOf(request)
    const { rows } = await db.query('select * from orders where user_id = $1', [Number(request.params.userId)])
    return { items: rows, nextCursor: null }
  })

  app.get<{ Params: { name: string } }>('/files/:name', async (request, reply) => {
    await userOf(request)
    const { rows: [file] } = await db.query<{ name: string }>('select * from files where name = $1', [request.params.name])
    if (file === undefined) return reply.code(404).send({ error: 'No such file' })
    return reply.type(typeOf(file.name)).send(createReadStream(join(directory, 'uploads', file.name)))
  })
}
