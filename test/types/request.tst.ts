/** What handlers see: nothing is typed as being there that may not be. */
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import { expect, test } from 'tstyche'
import { principalOf, type Principal } from '../../plugins/index.js'
import { closed } from '../../schemas/index.js'
import type { Forbidden } from '../../plugins/access/index.js'
import { Type, type Static } from '@sinclair/typebox'

declare const request: FastifyRequest
declare const app: FastifyInstance

test('the principal may be nobody, until it is asked for [TRAP 19]', () => {
  expect(request.principal).type.toBe<Principal | null>()
  expect(principalOf(request)).type.toBe<Principal>()
})

test('capabilities are decorators of the instance', () => {
  expect(app).type.toHaveProperty('plan')
  expect(app).type.toHaveProperty('state')
  expect(app).type.toHaveProperty('limits')
  expect(app).type.toHaveProperty('access')
  expect(app).type.toHaveProperty('passwords')
  expect(app).type.toHaveProperty('tokens')
  expect(app).type.toHaveProperty('signIn')
  expect(app).type.toHaveProperty('events')
  expect(app).type.toHaveProperty('identity')
  expect(app.posture()).type.toHaveProperty('findings')
  expect<FastifyReply>().type.toHaveProperty('scriptNonce')
})

test('errors have their type, not any', () => {
  expect<InstanceType<typeof Forbidden>['code']>().type.toBe<'FST_BASTION_ACCESS_FORBIDDEN'>()
  expect<InstanceType<typeof Forbidden>>().type.toBeAssignableTo<Error>()
})

test('a closed body has the type of its fields', () => {
  const body = closed({ title: Type.String(), tags: Type.Optional(Type.Array(Type.String())) })
  expect<Static<typeof body>>().type.toBe<{ title: string, tags?: string[] }>()
  expect(Fastify().post).type.toBeCallableWith('/', { schema: { body } }, async () => 1)
})
