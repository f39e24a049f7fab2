/** Whoever may see a patient sees all of the record (CWE-863; API3), which is kept as it was written (CWE-312; API8). `exposure` shows each what is theirs; `cipher` encrypts what is kept. */
import type { FastifyRequest } from 'fastify'
import type { Twin } from '../app.js'

interface Rights { patients?: boolean, write?: boolean }

const RIGHTS: Record<string, Rights> = { nurse: { patients: true }, doctor: { patients: true, write: true }, admin: { patients: true, write: true } }

export default function recordsForAllStaff ({ app, db, userOf }: Twin): void {
  app.get('/patients', async request => {
    await staff(request, 'patients')
    const { rows } = await db.query('select * from patients order by id')
    return { items: rows, nextCursor: null }
  })

  app.patch<{ Params: { patientId: string }, Body: { ssn: string } }>('/patients/:patientId', async request => {
    await staff(request, 'write')
    const { rows: [patient] } = await db.query('update patients set ssn = $2 where id = $1 returning *', [Number(request.params.patientId), request.body.ssn])
    return patient
  })

  async function staff (request: FastifyRequest, right: keyof Rights): Promise<void> {
    const { role } = await userOf(request)
    const rights = RIGHTS[role] ?? {}
    if (!rights[right]) throw Object.assign(new Error('Not for you'), { statusCode: 403 })
  }
}
