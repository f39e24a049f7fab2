/**
 * Minimum necessary (HIPAA 45 CFR 164.502(b), GDPR Art. 5(1)(b) and (c)): a permission that is named after a purpose, and fields that are visible
 * to it. No mechanism of its own: `visibleTo` of exposure.
 */
import Fastify from 'fastify'
import { Type } from '@sinclair/typebox'
import t, { type Test } from 'tap'
import access from '../../plugins/access/index.js'
import errors from '../../plugins/errors.js'
import events from '../../plugins/events.js'
import exposure from '../../plugins/exposure.js'
import identity from '../../plugins/identity.js'
import plan from '../../plugins/plan/index.js'
import { server } from '../../plugins/server.js'
import { as, readCallers } from '../fixtures/caller.js'

const FOR_TREATMENT = { visibleTo: 'patients:treatment' }
const FOR_BILLING = { visibleTo: 'patients:billing' }
const plainly = { id: Type.String(), name: Type.String() }
const Patient = Type.Object({ ...plainly, diagnosis: Type.Optional(Type.String(FOR_TREATMENT)), insurance: Type.Optional(Type.String(FOR_BILLING)) }, { additionalProperties: false })
/** The negative control: the same fields, for whom they are is not said. */
const Everything = Type.Object({ ...plainly, diagnosis: Type.String(), insurance: Type.String() }, { additionalProperties: false })
const PATIENT = { id: 'p1', name: 'Pat', diagnosis: 'flu', insurance: 'policy 7', ssn: '123-45-6789' }

async function build (t: Test) {
  const app = Fastify(server({ logger: false }))
  t.teardown(() => app.close())
  for (const plugin of [plan, events, errors, identity]) await app.register(plugin)
  await app.register(access, {
    roles: {
      clerk: { permissions: ['patients:read'] },
      doctor: { inherits: ['clerk'], permissions: ['patients:treatment'] },
      biller: { inherits: ['clerk'], permissions: ['patients:billing'] },
    },
  } as never)
  await app.register(exposure)
  readCallers(app)
  const config = { access: { permissions: 'patients:read' } } as never
  app.get('/patient', { schema: { response: { 200: Patient } }, config }, async () => PATIENT)
  app.get('/patients', { schema: { response: { 200: Type.Array(Patient) } }, config }, async () => [PATIENT])
  app.get('/undivided', { schema: { response: { 200: Everything } }, config }, async () => PATIENT)
  return async (url: string, role: string) => (await app.inject({ url, headers: as({ id: role, roles: [role] } as never) })).json()
}

t.test('each role sees the fields of its purpose, of one and in lists [ASVS 14.2.6]', async t => {
  const get = await build(t)
  for (const [role, fields] of [['clerk', ['id', 'name']], ['doctor', ['id', 'name', 'diagnosis']], ['biller', ['id', 'name', 'insurance']]] as const) {
    t.strictSame(Object.keys(await get('/patient', role)), fields, role)
    t.strictSame((await get('/patients', role)).map(Object.keys), [fields], role)
  }
})

t.test('negative control: without purposes every role sees what any of them needs', async t => {
  const get = await build(t)
  t.match(await get('/undivided', 'clerk'), { diagnosis: 'flu', insurance: 'policy 7' })
})
