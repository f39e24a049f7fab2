/** A service that names nothing: every name compiles, and unknown ones are found at boot. */
import Fastify, { type FastifyRequest } from 'fastify'
import { expect, test } from 'tstyche'
import { resourceOf } from '../../../plugins/index.js'
import type { Permission, ResourceName, Role } from '../../../plugins/access/index.js'

declare const request: FastifyRequest

test('names are strings', () => {
  expect<Role>().type.toBe<string>()
  expect<Permission>().type.toBe<string>()
  expect<ResourceName>().type.toBe<string>()
  expect(Fastify().get).type.toBeCallableWith('/', { config: { access: { permissions: 'whatever' } } } as const, async () => 1)
})

test('what a route loaded is unknown until it is looked at, never any', () => {
  expect(resourceOf(request, 'order')).type.toBe<unknown>()
})
