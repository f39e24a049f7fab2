/** With whom something is shared for reading may write it too: that there is a share is asked, not what for (CWE-863; API1). `access` compares the action. */
import type { User } from '../data.js'
import type { Twin } from '../app.js'

interface Document { id: number, owner_id: number, title: string, content: string }

export default function sharesForEveryAction ({ app, db, userOf }: Twin): void {
  app.get('/documents', async request => {
    const { id } = await userOf(request)
    const { rows } = await db.query('select * from documents where owner_id = $1 or id in (select document_id from shares where user_id = $1)', [id])
    return { items: rows, nextCursor: null }
  })

  app.post<{ Body: { title: string, content: string } }>('/documents', async (request, reply) => {
    const { id } = await userOf(request)
    const { title, content } = request.body
    const { rows: [document] } = await db.query('insert into documents (owner_id, title, content) values ($1, $2, $3) returning *', [id, title, content])
    return reply.code(201).send(document)
  })

  app.put<{ Params: { documentId: string }, Body: { title: string, content: string } }>('/documents/:documentId', async (request, reply) => {
    const user = await userOf(request)
    const id = Number(request.params.documentId)
    const { rows: [document] } = await db.query<Document>('select * from documents where id = $1', [id])
    if (document === undefined || !await isTheirs(document, user)) return reply.code(404).send({ error: 'No such document' })
    const { title, content } = request.body
    const { rows: [changed] } = await db.query('update documents set title = $2, content = $3 where id = $1 returning *', [id, title, content])
    return changed
  })

  async function isTheirs (document: Document, user: User): Promise<boolean> {
    if (document.owner_id === user.id) return true
    const { rows } = await db.query('select 1 from shares where document_id = $1 and user_id = $2', [document.id, user.id])
    return rows.length > 0
  }
}
