/** Whoever knows or counts up an id has the object (CWE-639; API1). `access` loads it and asks whose it is before the handler runs. */
import type { Twin } from '../app.js'

interface Params { documentId: string }

export default function objectsOfOthers ({ app, db, userOf }: Twin): void {
  app.get<{ Params: Params }>('/documents/:documentId', async (request, reply) => {
    await userOf(request)
    const { rows: [document] } = await db.query('select * from documents where id = $1', [Number(request.params.documentId)])
    return document ?? reply.code(404).send({ error: 'No such document' })
  })

  app.put<{ Params: Params, Body: { title: string, content: string } }>('/documents/:documentId', async (request, reply) => {
    await userOf(request)
    const { title, content } = request.body
    const { rows: [document] } = await db.query('update documents set title = $2, content = $3 where id = $1 returning *', [Number(request.params.documentId), title, content])
    return document ?? reply.code(404).send({ error: 'No such document' })
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
}
