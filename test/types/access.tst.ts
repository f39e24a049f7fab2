/** A service that names its roles, permissions and resources: what it misspells does not compile. */
import Fastify, { type FastifyContextConfig, type FastifyRequest } from 'fastify'
import { describe, expect, test } from 'tstyche'
import { resourceOf, type Access, type AccessRule, type BastionOptions, type ResourceDefinition } from '../../plugins/index.js'
import type { AccessControl, Permission, ResourceName, Role } from '../../plugins/access/index.js'

interface Order { id: string, userId: string, total: number }
interface Document { id: string, title: string }

declare module '../../plugins/access/index.js' {
  interface AccessNames {
    role: 'reader' | 'editor'
    permission: 'posts:read' | 'posts:write'
    resources: { order: Order, document: Document }
  }
}

const app = Fastify()
declare const control: AccessControl
declare const request: FastifyRequest

test('the names are those of the service', () => {
  expect<Role>().type.toBe<'reader' | 'editor'>()
  expect<Permission>().type.toBe<'posts:read' | 'posts:write'>()
  expect<ResourceName>().type.toBe<'order' | 'document'>()
})

describe('config.access', () => {
  test('takes what is declared', () => {
    expect<Access>().type.toBeAssignableFrom<'public'>()
    expect<Access>().type.toBeAssignableFrom<'user'>()
    expect<Access>().type.toBeAssignableFrom<{ roles: 'reader' }>()
    expect<Access>().type.toBeAssignableFrom<{ roles: readonly ['reader', 'editor'], permissions: 'posts:read' }>()
    expect<Access>().type.toBeAssignableFrom<{ permissions: ['posts:read', 'posts:write'] }>()
    expect<Access>().type.toBeAssignableFrom<{ resource: 'order', action: 'write', via: ['bearer'], stepUp: { maxAge: 60 } }>()
    expect<Access>().type.toBeAssignableFrom<{ stepUp: { factors: 'pop' } }>()
    expect<Access>().type.toBeAssignableFrom<{ stepUp: { maxAge: 60, factors: readonly ['mfa', 'otp'] } }>()
    expect<FastifyContextConfig['access']>().type.toBe<Access | undefined>()
  })

  test('an unknown permission does not compile', () => {
    expect<Access>().type.not.toBeAssignableFrom<{ permissions: 'posts:raed' }>()
    expect<Access>().type.not.toBeAssignableFrom<{ permissions: ['posts:read', 'posts:raed'] }>()
    expect<Access>().type.not.toBeAssignableFrom<{ permissions: '*' }>()
  })

  test('an unknown role does not compile', () => {
    expect<Access>().type.not.toBeAssignableFrom<{ roles: 'raeder' }>()
    expect<Access>().type.not.toBeAssignableFrom<{ roles: ['reader', 'Reader'] }>()
  })

  test('an unknown resource does not compile', () => {
    expect<Access>().type.not.toBeAssignableFrom<{ resource: 'ordre' }>()
  })

  test('an unknown word, way or key does not compile', () => {
    expect<Access>().type.not.toBeAssignableFrom<'pubic'>()
    expect<Access>().type.not.toBeAssignableFrom<boolean>()
    expect<Access>().type.not.toBeAssignableFrom<{ via: ['cookie'] }>()
    expect<Access>().type.not.toBeAssignableFrom<{ stepUp: 300 }>()
    expect<Access>().type.not.toBeAssignableFrom<{ stepUp: {} }>()
    expect<Access>().type.not.toBeAssignableFrom<{ stepUp: { factors: 'passkey' } }>()
    expect<Access>().type.not.toBeAssignableFrom<{ stepUp: 'pop' }>()
    expect<keyof AccessRule>().type.toBe<'roles' | 'permissions' | 'resource' | 'action' | 'via' | 'stepUp'>()
  })

  test('on a route', () => {
    expect(app.get).type.toBeCallableWith('/', { config: { access: { permissions: 'posts:read' } } } as const, async () => 1)
    expect(app.get).type.not.toBeCallableWith('/', { config: { access: { permissions: 'posts:raed' } } } as const, async () => 1)
    expect(app.get).type.not.toBeCallableWith('/', { config: { access: { roles: 'raeder' } } } as const, async () => 1)
    expect(app.get).type.not.toBeCallableWith('/', { config: { access: { resource: 'ordre' } } } as const, async () => 1)
    expect(app.get).type.not.toBeCallableWith('/', { config: { access: 'everybody' } } as const, async () => 1)
    expect(app.get).type.not.toBeCallableWith('/', { config: { access: true } } as const, async () => 1)
  })
})

describe('the loaded object', () => {
  test('resourceOf gives its type', () => {
    expect(resourceOf(request, 'order')).type.toBe<Order>()
    expect(resourceOf(request, 'document')).type.toBe<Document>()
    expect(resourceOf).type.not.toBeCallableWith(request, 'ordre')
  })

  test('request.resource has it too, on the route that loads it', () => {
    app.get('/orders/:id', { config: { access: { resource: 'order' } } }, async request => {
      expect(request.resource).type.toBe<Order>()
      return request.resource.total
    })
    app.get('/documents/:id', { config: { access: { roles: 'reader', resource: 'document', action: 'read' } } }, async request => {
      expect(request.resource).type.toBe<Document>()
    })
    expect(request.resource).type.toBe<unknown>()
  })

  test('its definition must be of its type', () => {
    type Definitions = NonNullable<NonNullable<BastionOptions['access']>['resources']>
    expect<keyof Definitions>().type.toBe<'order' | 'document'>()
    expect<Definitions['order']>().type.toBeAssignableFrom<ResourceDefinition<Order>>()
    expect<Definitions['order']>().type.not.toBeAssignableFrom<{ load: () => { id: string } }>()
    expect<Definitions['order']>().type.not.toBeAssignableFrom<{ owner: (order: Order) => string }>()
  })
})

test('questions by hand take declared names only', () => {
  expect(control.can).type.toBeCallableWith(request.principal!, 'posts:read')
  expect(control.can).type.not.toBeCallableWith(request.principal!, 'posts:raed')
  expect(control.hasRole).type.toBeCallableWith(request.principal!, 'editor')
  expect(control.hasRole).type.not.toBeCallableWith(request.principal!, 'admin')
})
