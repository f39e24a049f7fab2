/** Options: complete, and what is misspelt does not compile. */
import Fastify from 'fastify'
import { describe, expect, test } from 'tstyche'
import bastion, { Secret, server, settings, type Accounts, type BastionOptions, type ServerOptions } from '../../plugins/index.js'
import access from '../../plugins/access/index.js'
import apiKeys, { sqlApiKeys, type ApiKeysOptions } from '../../plugins/api-keys/index.js'
import cors, { type CorsOptions } from '../../plugins/cors.js'
import csrf, { type CsrfOptions } from '../../plugins/csrf/index.js'
import headers, { type HeadersOptions } from '../../plugins/headers/index.js'
import limits, { type LimitsOptions } from '../../plugins/limits/index.js'
import mfa, { sqlMfaStore, type MfaOptions } from '../../plugins/mfa/index.js'
import passwords, { type PasswordsOptions } from '../../plugins/passwords/index.js'
import type { OverloadOptions } from '../../plugins/overload.js'
import signIn, { type SignInOptions } from '../../plugins/sign-in.js'
import type { Sql } from '../../plugins/sql.js'
import state, { type StateOptions } from '../../plugins/state/index.js'
import tokens, { type TokensOptions } from '../../plugins/tokens/index.js'
import transport, { type TransportOptions } from '../../plugins/transport/index.js'
import { Type } from '@sinclair/typebox'
import type { Cluster, Redis } from 'ioredis'

const app = Fastify()
declare const accounts: Accounts
declare const keys: TokensOptions['keys']
declare const sql: Sql

test('the suite: one key a concern', () => {
  expect<keyof BastionOptions>().type.toBe<'headers' | 'transport' | 'cors' | 'overload' | 'state' | 'limits' | 'access' | 'csrf' | 'sessions' | 'passwords' | 'tokens' | 'apiKeys' | 'signIn' | 'oauth2' | 'mfa' | 'passkeys' | 'validation' | 'outbound' | 'uploads' | 'files' | 'encryption' | 'privacy' | 'audit' | 'alerts' | 'metrics' | 'reports' | 'certificates' | 'versions' | 'openapi'>()
  expect<BastionOptions['headers']>().type.toBe<HeadersOptions | undefined>()
  expect<BastionOptions['transport']>().type.toBe<TransportOptions | undefined>()
  expect<BastionOptions['cors']>().type.toBe<CorsOptions | false | undefined>()
  expect<BastionOptions['state']>().type.toBe<StateOptions | undefined>()
  expect<BastionOptions['overload']>().type.toBe<OverloadOptions | false | undefined>()
  expect<BastionOptions['limits']>().type.toBe<LimitsOptions | undefined>()
  expect<BastionOptions['csrf']>().type.toBe<CsrfOptions | undefined>()
  expect<BastionOptions['passwords']>().type.toBe<PasswordsOptions | undefined>()
  expect<BastionOptions['tokens']>().type.toBe<TokensOptions | undefined>()
  expect<BastionOptions['apiKeys']>().type.toBe<ApiKeysOptions | undefined>()
  expect<BastionOptions['signIn']>().type.toBe<SignInOptions | undefined>()
  expect<BastionOptions['mfa']>().type.toBe<MfaOptions | undefined>()
})

describe('register()', () => {
  test('takes the suite as it is, and with its options', () => {
    expect(app.register).type.toBeCallableWith(bastion)
    expect(app.register).type.toBeCallableWith(bastion, {})
    expect(app.register).type.toBeCallableWith(bastion, { cors: false, limits: { address: ['5/second'], flood: false }, tokens: { issuer: 'a', audience: 'b', keys } })
  })

  test('a misspelt concern does not compile', () => {
    expect(app.register).type.not.toBeCallableWith(bastion, { heders: {} })
    expect(app.register).type.not.toBeCallableWith(bastion, { signin: { accounts } })
    expect(app.register).type.not.toBeCallableWith(bastion, { limits: false })
  })

  test('a misspelt option of a concern does not compile', () => {
    expect(app.register).type.not.toBeCallableWith(bastion, { headers: { hstss: false } })
    expect(app.register).type.not.toBeCallableWith(bastion, { transport: { host: [] } })
    expect(app.register).type.not.toBeCallableWith(bastion, { cors: { origin: [] } })
    expect(app.register).type.not.toBeCallableWith(bastion, { state: { maxEntry: 100 } })
    expect(app.register).type.not.toBeCallableWith(bastion, { limits: { addres: ['5/second'] } })
    expect(app.register).type.not.toBeCallableWith(bastion, { access: { rolls: {} } })
    expect(app.register).type.not.toBeCallableWith(bastion, { passwords: { peper: Buffer.alloc(32) } })
    expect(app.register).type.not.toBeCallableWith(bastion, { tokens: { issuer: 'a', audience: 'b', keys, ttl: 900 } })
    expect(app.register).type.not.toBeCallableWith(bastion, { signIn: { accounts, windowMS: 1 } })
  })

  test('a wrong value does not compile', () => {
    expect(app.register).type.not.toBeCallableWith(bastion, { cors: { origins: [/example/] } })
    expect(app.register).type.not.toBeCallableWith(bastion, { limits: { address: '5/second' } })
    expect(app.register).type.not.toBeCallableWith(bastion, { tokens: { issuer: 'a', audience: 'b', keys, algorithm: 'none' } })
    expect(app.register).type.toBeCallableWith(tokens, { issuer: 'a', audience: 'b', keys, dpop: { required: true, algorithms: ['ES256', 'Ed25519'] } })
    expect(app.register).type.not.toBeCallableWith(tokens, { issuer: 'a', audience: 'b', keys, dpop: true })
    expect(app.register).type.not.toBeCallableWith(tokens, { issuer: 'a', audience: 'b', keys, dpop: { require: true } })
    expect(app.register).type.not.toBeCallableWith(tokens, { issuer: 'a', audience: 'b', keys, dpop: { algorithms: ['HS256'] } })
    expect(app.register).type.not.toBeCallableWith(bastion, { tokens: { issuer: 'a', audience: 'b', keys: { access: 'secret', refresh: 'secret' } } })
  })

  test('what is needed cannot be forgotten', () => {
    expect(app.register).type.not.toBeCallableWith(bastion, { tokens: { issuer: 'a', audience: 'b' } })
    expect(app.register).type.not.toBeCallableWith(bastion, { signIn: {} })
    expect(app.register).type.not.toBeCallableWith(tokens, { issuer: 'a', keys })
    expect(app.register).type.not.toBeCallableWith(signIn)
    expect(app.register).type.not.toBeCallableWith(apiKeys, { secret: Buffer.alloc(32), store: sqlApiKeys(sql) })
    expect(app.register).type.not.toBeCallableWith(apiKeys, { secret: Buffer.alloc(32), owner: async () => null })
    expect(app.register).type.not.toBeCallableWith(mfa, { issuer: 'Shop', accounts, store: sqlMfaStore(sql) })
    expect(app.register).type.not.toBeCallableWith(mfa, { issuer: 'Shop', accounts, key: Buffer.alloc(32) })
  })

  test('each concern alone takes its own options, and no others', () => {
    expect(app.register).type.toBeCallableWith(headers, { cacheControl: 'no-cache' })
    expect(app.register).type.not.toBeCallableWith(headers, { cacheControll: 'no-cache' })
    expect(app.register).type.toBeCallableWith(transport, { hosts: ['localhost'] })
    expect(app.register).type.not.toBeCallableWith(transport, { hosts: 'localhost' })
    expect(app.register).type.toBeCallableWith(cors, { origins: '*' })
    expect(app.register).type.not.toBeCallableWith(cors, { origins: true })
    expect(app.register).type.toBeCallableWith(csrf, { key: [Buffer.alloc(32)], origins: ['https://app.example.com'] })
    expect(app.register).type.not.toBeCallableWith(csrf, { key: 'text' })
    expect(app.register).type.not.toBeCallableWith(csrf, { origins: [] })
    expect(app.register).type.toBeCallableWith(state, { maxEntries: 100 })
    expect(app.register).type.not.toBeCallableWith(state, { maxEntries: '100' })
    expect(app.register).type.toBeCallableWith(limits, { principal: false })
    expect(app.register).type.not.toBeCallableWith(limits, { principal: true })
    expect(app.register).type.toBeCallableWith(access, { roles: { reader: { permissions: ['posts:read'] } } })
    expect(app.register).type.not.toBeCallableWith(access, { roles: { reader: { permission: ['posts:read'] } } })
    expect(app.register).type.toBeCallableWith(passwords, { policy: 'composition' })
    expect(app.register).type.not.toBeCallableWith(passwords, { policy: 'weak' })
    expect(app.register).type.toBeCallableWith(apiKeys, { secret: Buffer.alloc(32), store: sqlApiKeys(sql), owner: async () => ({ isActive: true, roles: ['user'] }), prefix: 'acme' })
    expect(app.register).type.not.toBeCallableWith(apiKeys, { secret: 'text', store: sqlApiKeys(sql), owner: async () => null })
    expect(app.register).type.toBeCallableWith(mfa, { issuer: 'Shop', accounts, store: sqlMfaStore(sql), key: [Buffer.alloc(32)], drift: 0 })
    expect(app.register).type.not.toBeCallableWith(mfa, { issuer: 'Shop', accounts, store: sqlMfaStore(sql), key: 'text', drift: 0 })
  })
})

describe('config of a route', () => {
  test('limits, headers, answers, cors, https', () => {
    const handler = async () => 1
    expect(app.get).type.toBeCallableWith('/', { config: { limits: ['5/second'], headers: { cacheControl: 'no-cache' }, answers: 'raw', cors: false, https: false } } as const, handler)
    expect(app.get).type.not.toBeCallableWith('/', { config: { limits: '5/second' } } as const, handler)
    expect(app.get).type.not.toBeCallableWith('/', { config: { limits: { windows: ['5/second'], by: 'user' } } } as const, handler)
    expect(app.get).type.not.toBeCallableWith('/', { config: { headers: 'none' } } as const, handler)
    expect(app.get).type.toBeCallableWith('/', { config: { headers: { clearSiteData: ['cookies', 'storage'], crossOriginOpenerPolicy: 'same-origin-allow-popups', reportUri: false } } } as const, handler)
    expect(app.get).type.not.toBeCallableWith('/', { config: { headers: { clearSiteData: ['cookie'] } } } as const, handler)
    expect(app.get).type.not.toBeCallableWith('/', { config: { headers: { crossOriginOpenerPolicy: 'none' } } } as const, handler)
    expect(app.register).type.not.toBeCallableWith(bastion, { headers: { clearSiteData: ['cookies'] } })
    expect(app.get).type.not.toBeCallableWith('/', { config: { answers: 'any' } } as const, handler)
    expect(app.get).type.not.toBeCallableWith('/', { config: { https: true } } as const, handler)
  })
})

describe('server()', () => {
  test('gives what Fastify takes', () => {
    expect(Fastify).type.toBeCallableWith(server())
    expect(server).type.toBeCallableWith({ bodyLimit: 1024, trustProxy: ['10.0.0.0/8'], logger: 'warn', fastify: { maxRequestsPerSocket: 1 } })
  })

  test('a hop count, true, and options that are decided here do not compile', () => {
    expect<ServerOptions>().type.not.toBeAssignableFrom<{ trustProxy: number }>()
    expect<ServerOptions>().type.not.toBeAssignableFrom<{ trustProxy: true }>()
    expect(server).type.not.toBeCallableWith({ bodylimit: 1024 })
    expect(server).type.not.toBeCallableWith({ fastify: { trustProxy: 1 } })
    expect(server).type.not.toBeCallableWith({ fastify: { ajv: {} } })
  })
})

test('settings() has the types of its schema', () => {
  const read = settings(Type.Object({
    PORT: Type.Integer({ default: 3000 }),
    MODE: Type.Union([Type.Literal('fast'), Type.Literal('safe')]),
    APP_SECRET: Type.Optional(Secret()),
  }))
  expect(read).type.toBe<{ PORT: number, MODE: 'fast' | 'safe', APP_SECRET?: string }>()
  expect(read).type.not.toHaveProperty('PROT')
  expect(settings).type.not.toBeCallableWith(Type.String())
  expect(Secret).type.not.toBeCallableWith({ default: 'changeme' })
})

test('state: Redis by URL, by options, or by a client of ioredis', () => {
  type Connection = NonNullable<StateOptions['redis']>
  expect<Redis>().type.toBeAssignableTo<Connection>()
  expect<Cluster>().type.toBeAssignableTo<Connection>()
  expect<{ sentinels: { host: string, port: number }[], name: string }>().type.toBeAssignableTo<Connection>()
  expect<{ cluster: string[], password: string }>().type.toBeAssignableTo<Connection>()
  expect<number>().type.not.toBeAssignableTo<Connection>()
})
