/** Patients: names for nurses, the rest for doctors. Whoever may not see a field does not have it decrypted either, and every read is in the audit trail. */
import { Type, type Static } from '@sinclair/typebox'
import { createError } from '@fastify/error'
import type { FastifyRequest } from 'fastify'
import { resourceOf } from '../../plugins/access/index.js'
import { NotFound } from '../../plugins/errors.js'
import { principalOf } from '../../plugins/identity.js'
import { closed, Id, page, PageQuery } from '../../schemas/index.js'
import type { Portal } from '../app.js'
import { build, first, rows, type PatientRow } from '../data/tables.js'
import { Diagnosis, PatientFields, PatientName, Ssn } from '../patients.js'
import { paged } from './shapes.js'

const UnknownCursor = createError('FST_PORTAL_UNKNOWN_CURSOR', 'This page is gone: begin again without a cursor', 400)

const Patient = closed({ id: Id, ...PatientFields.properties, updatedAt: Type.String({ format: 'date-time' }) })
const PatientParams = closed({ patientId: Id })

/** Nobody reads of a patient without evidence. */
const PROMISED = { type: 'data_access', durable: true } as const
/** Of a longer list the trail keeps its beginning. */
const TOLD_AT_ONCE = 32

export function patientRoutes ({ app, sql, now }: Portal): void {
  app.get('/patients', {
    schema: { querystring: PageQuery, response: { 200: page(Patient) } },
    config: { access: { permissions: 'patients:read' }, audit: PROMISED },
  }, async request => {
    const { cursor, limit } = request.query
    if (cursor !== undefined && await first(sql, build.selectFrom('patients').select('id').where('id', '=', cursor)) === null) throw new UnknownCursor()
    const found = await rows(sql, build.selectFrom('patients').selectAll()
      .$if(cursor !== undefined, query => query.where(eb => eb(eb.refTuple('created_at', 'id'), '>',
        eb.selectFrom('patients').select(['created_at', 'id']).where('id', '=', cursor!).$asTuple('created_at', 'id'))))
      .orderBy('created_at').orderBy('id').limit(limit + 1))
    return shownTogether(request, paged(found, limit, row => shown(request, row)))
  })

  // The number stands in the body: what is in a URL stands in the logs of every proxy (ASVS 14.2.1).
  app.post('/patients/search', {
    schema: { body: closed({ ssn: Ssn }), response: { 200: closed({ items: Type.Array(Patient) }) } },
    config: { access: { permissions: 'patients:read:clinical' }, limits: ['30/minute'], audit: PROMISED },
  }, async request => {
    const { ssn } = request.body
    const found = await rows(sql, build.selectFrom('patients').selectAll()
      .where('ssn_index', 'in', app.cipher.indexes(ssn, { table: 'patients', column: 'ssn' })).orderBy('created_at').orderBy('id').limit(100))
    // Who can write to the table can put an index beside another number.
    return shownTogether(request, { items: found.map(row => shown(request, row)).filter(patient => patient.ssn === ssn) })
  })

  app.get('/patients/:patientId', {
    schema: { params: PatientParams, response: { 200: Patient } },
    config: { access: { permissions: 'patients:read', resource: 'patient', action: 'read' }, audit: PROMISED },
  }, async request => shown(request, resourceOf(request, 'patient')))

  app.patch('/patients/:patientId', {
    schema: {
      params: PatientParams,
      body: closed({ name: Type.Optional(PatientName), ssn: Type.Optional(Ssn), diagnosis: Type.Optional(Diagnosis) }, { minProperties: 1 }),
      response: { 200: Patient },
    },
    config: { access: { permissions: 'patients:write', resource: 'patient', action: 'write' }, audit: { type: 'data_modification', durable: true } },
  }, async request => {
    const { id } = resourceOf(request, 'patient')
    const sealed = app.cipher.sealRow(PatientFields, { table: 'patients', row: id }, request.body)
    const patient = await first(sql, build.updateTable('patients').set({ ...sealed, updated_at: new Date(now()) }).where('id', '=', id).returningAll())
    if (patient === null) throw new NotFound()
    return shown(request, patient)
  })

  /** A patient as the one who asks may see him. */
  function shown (request: FastifyRequest, { id, name, ssn, diagnosis, updated_at: updated }: PatientRow): Static<typeof Patient> {
    const isClinical = app.access.can(principalOf(request), 'patients:read:clinical')
    const fields = app.cipher.openRow(PatientFields, { table: 'patients', row: id }, isClinical ? { name, ssn, diagnosis } : { name }, request)
    return { id, ...fields, updatedAt: updated.toISOString() }
  }

  /** The trail says whose records they were: the route alone does not. */
  function shownTogether<Shown extends { items: readonly { id: string }[] }> (request: FastifyRequest, list: Shown): Shown {
    const patients = list.items.map(({ id }) => id)
    for (let i = 0; i < patients.length; i += TOLD_AT_ONCE) app.events.record('data_access', request, { patients: patients.slice(i, i + TOLD_AT_ONCE) }, { promised: true })
    return list
  }
}
