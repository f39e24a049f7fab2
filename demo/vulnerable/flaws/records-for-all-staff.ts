/** Whoever may see a patient sees all of the record (CWE-213; API3), which is kept as it was written (CWE-311; API8). `exposure` shows each what is theirs; `cipher` encrypts what is kept. */
import type { Twin } from '../app.js'

export default function recordsForAllStaff ({ app, db, userOf }: Twin): void {
  // Who may come here: guards-by-url.ts
  app.get('/patients', async () => {
    const { rows } = await db.query('select * from patients order by id')
    return { items: rows, nextCursor: null }
  })

  app.patch<{ Params: { patientId: string }, Body: { diagnosis: string } }>('/patients/:patientId', async (request, reply) => {
    const { role } = await userOf(request)
    if (role !== 'doctor') return reply.code(403).send({ error: 'For doctors' })
    const { rows: [patient] } = await db.query('update patients set diagnosis = $2 where id = $1 returning *', [Number(request.params.patientId), request.body.diagnosis])
    return patient
  })
}
