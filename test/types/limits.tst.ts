/** Limits: rules and options, and what is misspelt does not compile. */
import Fastify, { type FastifyInstance, type FastifyRequest } from 'fastify'
import { describe, expect, test } from 'tstyche'
import bastion from '../../plugins/index.js'
import limits, { addressKey, subjects, type By, type LimitRule, type LimitsOptions, type Refuse } from '../../plugins/limits/index.js'
import type { Decision, MaybePromise } from '../../plugins/state/index.js'

declare const app: FastifyInstance
declare const request: FastifyRequest
const handler = async () => 1

describe('a rule', () => {
  test('who shares a budget: names, functions, and lists of them', () => {
    expect<LimitRule['by']>().type.toBeAssignableFrom<'caller' | 'principal' | 'address' | 'key' | 'plan' | 'route' | 'method'>()
    expect<By>().type.toBeAssignableFrom<readonly ['address', 'method']>()
    expect<By>().type.toBeAssignableFrom<readonly ['plan', (request: FastifyRequest) => string]>()
    expect<By>().type.not.toBeAssignableFrom<'user'>()
    expect<By>().type.not.toBeAssignableFrom<readonly ['address', 'ip']>()
    expect<By>().type.not.toBeAssignableFrom<(request: FastifyRequest) => number>()
    expect<By>().type.not.toBeAssignableFrom<(request: FastifyRequest) => Promise<string>>()
  })

  test('in the config of a route', () => {
    expect(app.get).type.toBeCallableWith('/', {
      config: {
        limits: {
          windows: ['10/10s'], plans: { free: ['1/second'], anything: ['9/second'] }, by: ['address', 'method'], algorithm: 'bucket', cost: 2, group: 'g', ban: { after: 3, for: '15m' }, refuse: () => new Error('no'),
        },
      },
    } as const, handler)
    expect(app.get).type.toBeCallableWith('/', { config: { limits: { windows: ['5/second'], by: (request: FastifyRequest) => addressKey(request.ip) } } }, handler)
    expect(app.get).type.not.toBeCallableWith('/', { config: { limits: { plans: { free: ['5/second'] } } } } as const, handler)
    expect(app.get).type.not.toBeCallableWith('/', { config: { limits: { windows: ['5/second'], algorithm: 'leaky' } } } as const, handler)
    expect(app.get).type.not.toBeCallableWith('/', { config: { limits: { windows: ['5/second'], plans: { free: '5/second' } } } } as const, handler)
    expect(app.get).type.not.toBeCallableWith('/', { config: { limits: { windows: ['5/second'], ban: { after: 3 } } } } as const, handler)
    expect(app.get).type.not.toBeCallableWith('/', { config: { limits: { windows: ['5/second'], ban: { after: 3, for: 900 } } } } as const, handler)
    expect(app.get).type.not.toBeCallableWith('/', { config: { limits: { windows: ['5/second'], refuse: 'no' } } } as const, handler)
  })

  test('a refusal of one\'s own is an error, at once', () => {
    expect<Refuse>().type.toBeAssignableFrom<(request: FastifyRequest, decision: Decision) => RangeError>()
    expect<Refuse>().type.not.toBeAssignableFrom<() => Promise<Error>>()
    expect<Refuse>().type.not.toBeAssignableFrom<() => string>()
  })
})

test('options', () => {
  expect(Fastify().register).type.toBeCallableWith(bastion, {
    limits: { address: false, plans: { gold: ['9/second'] }, ban: { after: 3, for: '1h' }, exempt: ['10.0.0.0/8'], whenAway: 'refuse', deadline: 50, algorithm: 'log' },
  })
  expect(app.register).type.toBeCallableWith(limits, { exempt: (request: FastifyRequest) => request.principal?.id === 'monitor' })
  expect(app.register).type.not.toBeCallableWith(limits, { exempt: '10.0.0.1' })
  expect(app.register).type.not.toBeCallableWith(limits, { exempt: async () => true })
  expect(app.register).type.not.toBeCallableWith(limits, { whenAway: 'wait' })
  expect(app.register).type.not.toBeCallableWith(limits, { plans: ['5/second'] })
  expect(app.register).type.not.toBeCallableWith(limits, { ban: { after: 3 } })
  expect<LimitsOptions>().type.not.toHaveProperty('whenaway')
})

test('by hand', () => {
  expect(app.limits.check('mails', ['3/hour'], 'ada')).type.toBe<MaybePromise<Decision>>()
  expect(app.limits.check).type.toBeCallableWith('mails', { windows: ['3/hour'], algorithm: 'log', ban: { after: 3, for: '1h' }, cost: 2 } as const, 'ada', 3)
  expect(app.limits.check).type.not.toBeCallableWith('mails', { windows: ['3/hour'], by: 'address' } as const, 'ada')
  expect(app.limits.check).type.not.toBeCallableWith('mails', ['3/hour'])
  expect(app.limits.inspect('a', subjects.user('ada'))).type.toBe<Promise<(Decision & { plan: string | null })[]>>()
  expect(app.limits.reset).type.toBeCallableWith('a', subjects.all(subjects.address('192.0.2.1'), subjects.method('GET')), request)
  expect(app.limits.reset).type.not.toBeCallableWith('a')
})
