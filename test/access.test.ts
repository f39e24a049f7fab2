/** Access: nobody passes who was not let in, early, and every refusal is recorded. */
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect, type AddressInfo } from 'node:net'
import Fastify, { type FastifyInstance, type FastifyRequest, type InjectOptions, type RouteOptions } from 'fastify'
import { Type } from '@sinclair/typebox'
import t, { type Test } from 'tap'
import access, { resourceOf, type AccessOptions } from '../plugins/access/index.js'
import { expandRoles } from '../plugins/access/roles.js'
import { compileRule } from '../plugins/access/rule.js'
import errors from '../plugins/errors.js'
import events, { type SecurityEvent } from '../plugins/events.js'
import bastion from '../plugins/index.js'
import identity from '../plugins/identity.js'
import plan from '../plugins/plan/index.js'
import { server } from '../plugins/server.js'
import { as, readCallers } from './fixtures/caller.js'

interface Note { id: string, owner: string | null, shared?: Record<string, string[]> }
interface Built {
  app: FastifyInstance
  recorded: SecurityEvent[]
  /** How often a handler ran. */
  runs: { count: number }
  clock: { ms: number }
  /** Declares `POST <url>` (or another method) with this policy, whatever its names. */
  guard: (url: string, policy: unknown, options?: Partial<RouteOptions>) => void
}

const NOW = 1_700_000_000

async function build (t: Test, options: Record<string, unknown> = {}): Promise<Built> {
  const app = Fastify(server({ logger: false }))
  t.teardown(() => app.close())
  const recorded: SecurityEvent[] = []
  const runs = { count: 0 }
  const clock = { ms: NOW * 1000 }
  await app.register(plan)
  await app.register(events)
  await app.register(errors)
  await app.register(identity)
  await app.register(access, { now: () => clock.ms, ...options } as AccessOptions)
  readCallers(app)
  app.events.listen(event => { recorded.push(event) })
  return {
    app,
    recorded,
    runs,
    clock,
    guard (url, policy, more) {
      app.route({ method: 'POST', url, handler: async () => { runs.count++; return { ok: true } }, ...more, config: { access: policy } as never })
    },
  }
}

const post = (app: FastifyInstance, url: string, caller?: Parameters<typeof as>[0], more: InjectOptions = {}) =>
  app.inject({ method: 'POST', url, ...more, headers: { ...more.headers as object, ...(caller !== undefined && as(caller)) } })

const ROLES = {
  guest: { permissions: ['posts:read'] },
  user: { inherits: ['guest'], permissions: ['posts:write'] },
  moderator: { inherits: ['user'], permissions: ['posts:*'] },
  auditor: { inherits: ['guest'], permissions: ['audit:read'] },
  chief: { inherits: ['moderator', 'auditor'] },
  admin: { permissions: ['*'] },
}
const PERMISSIONS = ['posts:delete', 'posts:read:draft', 'users:delete']

t.test('who is let in', async t => {
  t.test('everybody on a public route, and nobody else on any other without a credential [ASVS 8.2.1]', async t => {
    const { app, guard, runs, recorded } = await build(t, { roles: ROLES, permissions: PERMISSIONS })
    guard('/public', 'public')
    guard('/user', 'user')
    guard('/role', { roles: 'admin' })
    guard('/permission', { permissions: 'posts:write' })
    guard('/via', { via: ['key'] })
    guard('/fresh', { stepUp: true })
    t.equal((await post(app, '/public')).statusCode, 200)
    for (const url of ['/user', '/role', '/permission', '/via', '/fresh']) {
      const answer = await post(app, url)
      t.equal(answer.statusCode, 401, url)
      t.equal(answer.json().code, 'FST_BASTION_ACCESS_UNAUTHENTICATED')
      t.equal(answer.headers['www-authenticate'], 'Bearer realm="api"', 'a challenge with a parameter, and no error where no credential was sent (RFC 6750, 3)')
      t.notMatch(answer.body, /role|permission|key|admin|posts/, 'what would be needed is not told')
    }
    t.equal(runs.count, 1, 'only the public handler ran')
    t.equal(recorded.length, 5)
    t.match(recorded[1], { type: 'access_denied', method: 'POST', route: '/role', address: '127.0.0.1', details: { reason: 'no credential' } })
  })

  t.test('whoever is signed in, where the policy is user', async t => {
    const { app, guard } = await build(t)
    guard('/user', 'user')
    t.equal((await post(app, '/user', { roles: [] })).statusCode, 200)
    t.equal((await post(app, '/user', { via: 'session' })).statusCode, 200)
    t.equal((await post(app, '/user', { kind: 'key', via: 'key' })).statusCode, 403, 'a key is for programs, and is asked for by name')
  })

  t.test('one of several roles is enough, and all of several permissions are needed', async t => {
    const { app, guard, runs } = await build(t, { roles: ROLES, permissions: PERMISSIONS })
    guard('/roles', { roles: ['admin', 'auditor'] })
    guard('/permissions', { permissions: ['posts:write', 'audit:read'] })
    t.equal((await post(app, '/roles', { roles: ['auditor'] })).statusCode, 200)
    t.equal((await post(app, '/roles', { roles: ['guest', 'admin'] })).statusCode, 200)
    t.equal((await post(app, '/roles', { roles: ['guest', 'user'] })).statusCode, 403)
    t.equal((await post(app, '/permissions', { roles: ['user'] })).statusCode, 403)
    t.equal((await post(app, '/permissions', { roles: ['auditor'] })).statusCode, 403)
    t.equal((await post(app, '/permissions', { roles: ['user', 'auditor'] })).statusCode, 200, 'what several roles give adds up')
    t.equal(runs.count, 3)
  })

  t.test('all parts of a rule must hold', async t => {
    const { app, guard } = await build(t, { roles: ROLES, permissions: PERMISSIONS })
    guard('/all', { roles: 'moderator', permissions: 'audit:read', via: ['session'], stepUp: { maxAge: 10 } })
    const whole = { roles: ['chief'], via: 'session', authTime: NOW } as const
    t.equal((await post(app, '/all', whole)).statusCode, 200)
    t.equal((await post(app, '/all', { ...whole, roles: ['auditor'] })).statusCode, 403)
    t.equal((await post(app, '/all', { ...whole, roles: ['moderator'] })).statusCode, 403)
    t.equal((await post(app, '/all', { ...whole, via: 'bearer' })).statusCode, 403)
    t.equal((await post(app, '/all', { ...whole, authTime: NOW - 11 })).statusCode, 401)
  })

  t.test('the HEAD of a GET is guarded as the GET is', async t => {
    const { app, runs } = await build(t, { roles: ROLES, permissions: PERMISSIONS })
    app.get('/secret', { config: { access: { permissions: 'audit:read' } } as never }, async () => { runs.count++; return 'x' })
    for (const method of ['GET', 'HEAD'] as const) {
      t.equal((await app.inject({ method, url: '/secret' })).statusCode, 401)
      t.equal((await app.inject({ method, url: '/secret', headers: as({ roles: ['user'] }) })).statusCode, 403)
    }
    t.equal(runs.count, 0)
    t.equal((await app.inject({ method: 'HEAD', url: '/secret', headers: as({ roles: ['auditor'] }) })).statusCode, 200)
  })

  t.test('a credential that failed is refused with its own code, and the challenge says that it was the token', async t => {
    const { app, guard, recorded, runs } = await build(t)
    guard('/user', 'user')
    guard('/public', 'public')
    const broken = await post(app, '/user', { credential: 'broken' })
    t.equal(broken.statusCode, 401)
    t.equal(broken.json().code, 'TEST_CREDENTIAL_BROKEN')
    t.equal(broken.headers['www-authenticate'], 'Bearer realm="api", error="invalid_token"')
    const disabled = await post(app, '/user', { credential: 'disabled' })
    t.equal(disabled.statusCode, 403)
    t.equal(disabled.json().code, 'TEST_CREDENTIAL_DISABLED')
    t.equal(disabled.headers['www-authenticate'], undefined)
    t.same(recorded.map(({ details }) => details.reason), ['TEST_CREDENTIAL_BROKEN', 'TEST_CREDENTIAL_DISABLED'])
    t.equal(runs.count, 0)
    t.equal((await post(app, '/public', { credential: 'broken' })).statusCode, 200, 'a public route stays public')
  })

  t.test('a credential whose standing is still unknown is waited for, on public routes too', async t => {
    const { app, guard, runs } = await build(t, { roles: ROLES })
    guard('/user', 'user')
    guard('/permission', { permissions: 'posts:read' })
    guard('/role', { roles: 'guest' })
    app.get('/who', { config: { access: 'public' } }, async request => ({ who: request.principal?.id ?? 'nobody' }))
    for (const url of ['/user', '/permission', '/role']) {
      t.equal((await post(app, url, { roles: ['guest'], standing: 'good' })).statusCode, 200)
      const revoked = await post(app, url, { roles: ['guest'], standing: 'revoked' })
      t.equal(revoked.statusCode, 401)
      t.equal(revoked.json().code, 'TEST_CREDENTIAL_BROKEN')
    }
    t.equal(runs.count, 3)
    t.same((await app.inject({ url: '/who', headers: as({ standing: 'good' }) })).json(), { who: 'alice' })
    t.same((await app.inject({ url: '/who', headers: as({ standing: 'revoked' }) })).json(), { who: 'nobody' })
  })
})

t.test('roles and permissions', async t => {
  t.test('are inherited along chains and through diamonds', async t => {
    const { app, guard } = await build(t, { roles: ROLES, permissions: PERMISSIONS })
    guard('/moderators', { roles: 'moderator' })
    await app.ready()
    t.same([...app.access.permissionsOf(['user'])].sort(), ['posts:read', 'posts:write'])
    t.same([...app.access.permissionsOf(['chief'])].sort(), ['audit:read', 'posts:delete', 'posts:read', 'posts:read:draft', 'posts:write'])
    t.equal((await post(app, '/moderators', { roles: ['chief'] })).statusCode, 200, 'who inherits from a role passes where it is asked for')
    t.equal((await post(app, '/moderators', { roles: ['user'] })).statusCode, 403, 'not the other way round')
    t.equal((await post(app, '/moderators', { roles: ['admin'] })).statusCode, 403, 'a wildcard gives permissions, not roles')
  })

  t.test('are expanded once: forty diamonds one on top of the other boot at once', async t => {
    const roles: Record<string, unknown> = { r0: { permissions: ['posts:read'] } }
    for (let i = 1; i <= 40; i++) {
      roles[`a${i}`] = { inherits: [`r${i - 1}`] }
      roles[`b${i}`] = { inherits: [`r${i - 1}`] }
      roles[`r${i}`] = { inherits: [`a${i}`, `b${i}`] }
    }
    const { app } = await build(t, { roles })
    t.same([...app.access.permissionsOf(['r40'])], ['posts:read'])
  })

  t.test('ten thousand roles with what they inherit and have by wildcards hold it once; a role with more of its own has its own', async t => {
    const base = Array.from({ length: 1000 }, (_none, i) => `base:${i}`)
    const roles: Record<string, { inherits?: string[], permissions?: string[] }> = { base: { permissions: base }, wild: { permissions: ['base:*'] } }
    for (let i = 0; i < 10_000; i++) roles[`role-${i}`] = i % 2 === 0 ? { inherits: ['base'] } : { permissions: ['base:*'] }
    roles.more = { inherits: ['base'], permissions: ['more'] }
    const expanded = expandRoles(roles, [])
    t.equal(new Set(expanded.roles.values()).size, 3, 'sets of permissions for 10,003 roles: what is inherited, what the wildcard gives, and one with more')
    t.equal(expanded.roles.get('more')!.size, 1001, 'negative control')
    t.equal(expanded.roles.get('role-9999')!.size, 1000)
    t.equal(expanded.holders.get('base')!.size, 5002)
    t.same([...expanded.holders.get('role-1')!], ['role-1'])
    const { roles: asked } = compileRule({ roles: 'base' }, expanded)
    t.equal(asked, expanded.holders.get('base'), 'a thousand routes that ask for it share its holders')
  })

  t.test('a wildcard covers all below its name, and the star covers all', async t => {
    const { app } = await build(t, { roles: ROLES, permissions: [...PERMISSIONS, 'postscripts:read'] })
    const moderator = app.access.permissionsOf(['moderator'])
    t.ok(moderator.has('posts:read:draft'), 'also two levels down')
    t.notOk(moderator.has('postscripts:read'), 'but not what merely begins like it')
    t.notOk(moderator.has('users:delete'))
    t.same([...app.access.permissionsOf(['admin'])].sort(), [...app.access.permissions].sort())
  })

  t.test('are listed by app.access, and asked of a principal', async t => {
    const { app } = await build(t, { roles: ROLES, permissions: PERMISSIONS })
    const of = (roles: string[]) => ({ roles }) as never
    t.same(app.access.roles, Object.keys(ROLES))
    t.same([...app.access.permissions].sort(), ['audit:read', 'posts:delete', 'posts:read', 'posts:read:draft', 'posts:write', 'users:delete'])
    t.equal(app.access.can(of(['chief']), 'posts:delete' as never), true)
    t.equal(app.access.can(of(['user']), 'posts:delete' as never), false)
    t.equal(app.access.can(of(['admin']), 'posts:unheard-of' as never), false, 'a permission that nobody declared is nobody’s')
    t.equal(app.access.hasRole(of(['chief']), 'guest' as never), true)
    t.equal(app.access.hasRole(of(['guest']), 'chief' as never), false)
    t.equal(app.access.hasRole(of(['admin']), 'nobody' as never), false)
  })

  t.test('a role that a token still names and nobody defines any more gives nothing', async t => {
    const { app, guard } = await build(t, { roles: ROLES })
    guard('/read', { permissions: 'posts:read' })
    t.equal((await post(app, '/read', { roles: ['retired'] })).statusCode, 403)
  })

  t.test('names of Object.prototype are no roles and no permissions', async t => {
    const names = ['__proto__', 'constructor', 'toString', 'hasOwnProperty']
    const { app, guard, runs } = await build(t, { roles: ROLES })
    guard('/read', { permissions: 'posts:read' })
    guard('/role', { roles: 'guest' })
    for (const name of names) {
      t.equal((await post(app, '/read', { roles: [name] })).statusCode, 403, name)
      t.equal((await post(app, '/role', { roles: [name] })).statusCode, 403, name)
      t.same([...app.access.permissionsOf([name])], [])
      t.equal(app.access.can({ roles: ['guest'], scopes: [name] } as never, name as never), false)
    }
    t.equal(runs.count, 0)
    const own = await build(t, { roles: JSON.parse('{ "__proto__": { "permissions": ["constructor"] }, "toString": { "inherits": ["__proto__"] } }') })
    own.guard('/own', { roles: '__proto__', permissions: 'constructor' })
    t.equal((await post(own.app, '/own', { roles: ['toString'] })).statusCode, 200, 'and where somebody declares them they are names like any other')
    t.equal((await post(own.app, '/own', { roles: ['constructor'] })).statusCode, 403)
  })
})

t.test('credentials that are cut down', async t => {
  t.test('have the permissions that both their roles and their scopes give', async t => {
    const { app, guard, runs } = await build(t, { roles: ROLES, permissions: PERMISSIONS })
    guard('/write', { permissions: 'posts:write' })
    const key = { kind: 'key', via: 'key', roles: ['user'] } as const
    t.equal((await post(app, '/write', { ...key, scopes: ['posts:read', 'posts:write'] })).statusCode, 200)
    t.equal((await post(app, '/write', { ...key, scopes: ['posts:read'] })).statusCode, 403, 'a scope less than the role')
    t.equal((await post(app, '/write', { ...key, scopes: [] })).statusCode, 403, 'no scope is no permission')
    t.equal((await post(app, '/write', { ...key, roles: ['guest'], scopes: ['posts:write'] })).statusCode, 403, 'a scope more than the role')
    t.equal((await post(app, '/write', { ...key, scopes: 'posts:write:all' as never })).statusCode, 403, 'a text is not searched for a part of it')
    t.equal((await post(app, '/write', { ...key, scopes: ['*'], roles: ['admin'] })).statusCode, 403, 'scopes are names, not patterns')
    t.equal(runs.count, 1)
  })

  t.test('pass nowhere where no permission is asked for, unless their kind is named', async t => {
    const { app, guard, runs } = await build(t, { roles: ROLES })
    guard('/password', 'user')
    guard('/role', { roles: 'user' })
    guard('/named', { via: ['bearer', 'key'] })
    const cut = { roles: ['user'], scopes: ['posts:read'] }
    t.equal((await post(app, '/password', cut)).statusCode, 403, 'a bearer token for reading posts does not change a password')
    t.equal((await post(app, '/role', cut)).statusCode, 403)
    t.equal((await post(app, '/named', cut)).statusCode, 200)
    t.equal(runs.count, 1)
  })

  t.test('are accepted by kind: keys where a permission is asked for, or by name', async t => {
    const { app, guard } = await build(t, { roles: ROLES })
    guard('/permission', { permissions: 'posts:read' })
    guard('/bearer', { permissions: 'posts:read', via: ['bearer'] })
    guard('/key', { via: ['key'] })
    const caller = { roles: ['guest'], scopes: ['posts:read'] }
    t.equal((await post(app, '/permission', { ...caller, via: 'key' })).statusCode, 200)
    t.equal((await post(app, '/bearer', { ...caller, via: 'key' })).statusCode, 403)
    t.equal((await post(app, '/key', { ...caller, via: 'key' })).statusCode, 200)
    t.equal((await post(app, '/key', { ...caller, via: 'session' })).statusCode, 403)
  })
})

t.test('step-up [ASVS 7.5.3]', async t => {
  t.test('asks for a sign-in within five minutes, or within the seconds that a route says', async t => {
    const { app, guard, runs, recorded, clock } = await build(t)
    guard('/five', { stepUp: true })
    guard('/ten', { stepUp: { maxAge: 10 } })
    guard('/off', { stepUp: false, via: ['bearer'] })
    t.equal((await post(app, '/five', { authTime: NOW - 300 })).statusCode, 200)
    t.equal((await post(app, '/ten', { authTime: NOW - 10 })).statusCode, 200)
    t.equal((await post(app, '/off', { authTime: 0 })).statusCode, 200)
    clock.ms += 1000
    const late = await post(app, '/five', { authTime: NOW - 300 })
    t.equal(late.statusCode, 401)
    t.equal(late.json().code, 'FST_BASTION_STEP_UP_REQUIRED')
    t.equal(late.headers['www-authenticate'], 'Bearer realm="api", error="insufficient_user_authentication", max_age="300"', 'RFC 9470, 3')
    t.equal((await post(app, '/ten', { authTime: NOW - 10 })).statusCode, 401)
    t.equal(runs.count, 3)
    t.match(recorded[0], { type: 'access_denied', principal: 'alice', details: { reason: 'was not confirmed within 300 seconds' } })
  })

  t.test('asks for the factors that a route names, all of them, and says which in challenge and problem', async t => {
    const { app, guard, runs, recorded } = await build(t, { roles: ROLES })
    guard('/passkey', { stepUp: { factors: 'pop' } })
    guard('/both', { stepUp: { factors: ['mfa', 'otp'], maxAge: 60 } })
    guard('/with', { permissions: 'posts:read', stepUp: { factors: 'pop' } })
    t.equal((await post(app, '/passkey', { amr: ['pop', 'mfa'], authTime: 0 })).statusCode, 200, 'whenever it was')
    t.equal((await post(app, '/both', { amr: ['pwd', 'otp', 'mfa'], authTime: NOW - 60 })).statusCode, 200)
    t.equal((await post(app, '/with', { amr: ['pop'], roles: ['user'] })).statusCode, 200)
    t.equal(runs.count, 3)

    for (const caller of [{ amr: ['pwd', 'otp'] }, { amr: ['mfa'] }, { amr: ['pwd', 'otp', 'mfa'], authTime: NOW - 61 }]) {
      const refused = await post(app, '/both', { authTime: NOW, ...caller })
      t.match(refused.json(), { status: 401, code: 'FST_BASTION_STEP_UP_REQUIRED', factors: ['mfa', 'otp'] }, JSON.stringify(caller))
      t.equal(refused.headers['www-authenticate'], 'Bearer realm="api", error="insufficient_user_authentication", acr_values="mfa otp", max_age="60"', 'RFC 9470, 3')
    }
    t.equal(recorded[0]!.details.reason, 'has not shown mfa')
    t.equal(recorded.at(-1)!.details.reason, 'was not confirmed within 60 seconds')
    t.equal((await post(app, '/with', { amr: ['pwd'], roles: [] })).statusCode, 403, 'who may not do it is not asked for more')
    t.equal(runs.count, 3)
    t.match(app.plan.routes.find(({ url }) => url === '/passkey')!.controls.access, { stepUp: { factors: 'pop' } })
  })

  t.test('attack: a credential that was got by the password alone, or says nothing of factors, does not pass where a passkey is asked for [ASVS 6.3.3]', async t => {
    const { app, guard, runs } = await build(t)
    guard('/passkey', { stepUp: { factors: 'pop' }, via: ['bearer', 'session', 'key'] })
    guard('/without', { stepUp: { maxAge: 300 } })
    const fresh = { authTime: NOW }
    const callers = [
      { via: 'bearer', amr: ['pwd'] }, { via: 'session', amr: ['pwd'] }, { via: 'bearer', amr: ['pwd', 'otp', 'mfa'] }, { via: 'bearer' }, { via: 'bearer', amr: [] }, { via: 'key', kind: 'key' },
      { via: 'bearer', amr: 'pop' as never }, { via: 'bearer', amr: ['POP'] }, { via: 'bearer', amr: ['pwd pop'] }, { via: 'bearer', amr: null as never }, { via: 'bearer', amr: { pop: true } as never },
    ] as const
    for (const caller of callers) {
      const refused = await post(app, '/passkey', { ...fresh, ...caller } as never)
      t.match(refused.json(), { status: 401, code: 'FST_BASTION_STEP_UP_REQUIRED', factors: ['pop'] }, JSON.stringify(caller))
      t.equal(refused.headers['www-authenticate'], 'Bearer realm="api", error="insufficient_user_authentication", acr_values="pop"')
    }
    t.equal(runs.count, 0)
    t.equal((await post(app, '/without', { ...fresh, amr: ['pwd'] })).statusCode, 200, 'negative control: where only the time is asked for, the password does')
  })

  t.test('tokens and sessions say what was shown: a password alone passes neither by one nor by the other, a passkey by both [ASVS 10.3.4]', async t => {
    const key = randomBytes(32)
    const app = Fastify(server({ logger: false }))
    t.teardown(() => app.close())
    await app.register(bastion, {
      tokens: { issuer: 'https://api.example.com', audience: 'https://api.example.com', keys: { access: key, refresh: randomBytes(32) } }, csrf: { key }, sessions: { secret: key, secure: false },
    })
    const response = { 200: Type.Object({ ok: Type.Boolean() }) }
    let runs = 0
    app.get('/passkey', { schema: { response }, config: { access: { stepUp: { factors: 'pop' } } } }, async () => ({ ok: ++runs > 0 }))
    app.get('/recent', { schema: { response }, config: { access: { stepUp: true } } }, async () => ({ ok: true }))
    app.get('/unasked', { schema: { response }, config: { access: 'user' } }, async () => ({ ok: true }))
    app.get('/sign-in/:amr', { schema: { response }, config: { access: 'public' } }, async request => {
      await app.sessions.start(request, { id: 'ada', roles: [], amr: (request.params as { amr: string }).amr.split('+') })
      return { ok: true }
    })
    await app.ready()
    for (const [amr, status] of [[['pwd'], 401], [['pwd', 'otp', 'mfa'], 401], [['pop', 'mfa'], 200]] as const) {
      const { access_token: token } = await app.tokens.issue({ id: 'ada', roles: [], amr })
      const cookie = String((await app.inject(`/sign-in/${amr.join('+')}`)).headers['set-cookie']).split(';')[0]!
      for (const headers of [{ authorization: `Bearer ${token}` }, { cookie }] as Record<string, string>[]) {
        const { statusCode, body } = await app.inject({ url: '/passkey', headers })
        t.equal(statusCode, status, `${amr.join()} by ${Object.keys(headers).join()}: ${body}`)
        if (status === 401) t.match(JSON.parse(body), { code: 'FST_BASTION_STEP_UP_REQUIRED', factors: ['pop'] })
      }
    }
    t.equal(runs, 2)

    const seconds = Math.floor(Date.now() / 1000)
    const ask = async (url: string, known: { authTime?: number, amr?: readonly string[] }) =>
      (await app.inject({ url, headers: { authorization: `Bearer ${(await app.tokens.issue({ id: 'ada', roles: [], ...known })).access_token}` } })).statusCode
    t.equal(await ask('/recent', { authTime: seconds - 100 }), 200)
    t.equal(await ask('/recent', { authTime: seconds - 400 }), 401, 'a token that is fresh itself, of a sign-in that is not')
    t.equal(await ask('/passkey', {}), 401, 'a token that says nothing of factors')
    for (const known of [{ authTime: seconds - 400 }, { amr: ['pwd'] }, {}]) t.equal(await ask('/unasked', known), 200, 'negative control: the same tokens, where nothing is asked for')
  })

  t.test('a time that is none, or lies ahead, is not fresh', async t => {
    const { app, guard, runs } = await build(t)
    guard('/fresh', { stepUp: true })
    for (const authTime of [null, 'soon', NOW + 301, 1e300]) {
      t.equal((await post(app, '/fresh', { authTime: authTime as never })).statusCode, 401, String(authTime))
    }
    t.equal(runs.count, 0)
  })
})

const NOTES: Record<string, Note> = {
  one: { id: 'one', owner: 'alice', shared: { bob: ['read'], carol: ['read', 'write'] } },
  orphan: { id: 'orphan', owner: null },
  blank: { id: 'blank', owner: '' },
}
const find = (request: FastifyRequest): Note | undefined => NOTES[(request.params as { id: string }).id]
const note = { load: find, owner: ({ owner }: Note) => owner, shares: ({ shared }: Note, { userId }: { userId: string }) => shared?.[userId] ?? [] }
const READ = { resource: 'note', action: 'read' }
const WRITE = { resource: 'note', action: 'write' }

t.test('objects [ASVS 8.2.2]', async t => {
  t.test('belong to their owner, are shared by action, and do not exist for strangers', async t => {
    const { app, guard, runs, recorded } = await build(t, { resources: { note } })
    guard('/notes/:id/read', READ)
    guard('/notes/:id/write', WRITE)
    guard('/notes/:id', { resource: 'note' })
    t.equal((await post(app, '/notes/one/write', { id: 'alice' })).statusCode, 200)
    t.equal((await post(app, '/notes/one/read', { id: 'bob' })).statusCode, 200)
    t.equal((await post(app, '/notes/one', { id: 'bob' })).statusCode, 200, 'the action is read where none is named')
    t.equal((await post(app, '/notes/one/write', { id: 'carol' })).statusCode, 200)
    t.equal(runs.count, 4)

    const partly = await post(app, '/notes/one/write', { id: 'bob' })
    t.equal(partly.statusCode, 403, 'whom it is shared with in part knows that it is there')
    t.equal(partly.json().code, 'FST_BASTION_ACCESS_FORBIDDEN')
    const foreign = await post(app, '/notes/one/read', { id: 'mallory' })
    const missing = await post(app, '/notes/none/read', { id: 'mallory' })
    t.equal(foreign.statusCode, 404)
    t.equal(foreign.json().code, 'FST_BASTION_ERRORS_NOT_FOUND')
    const told = ({ body, headers, json }: typeof foreign) => ({ body: body.replace(json().requestId, ''), headers: { ...headers, date: '' } })
    t.same(told(foreign), told(missing), 'a foreign one is answered byte for byte as one that is missing')
    t.equal(runs.count, 4, 'and no handler ran')
    t.same(recorded.map(({ principal, route, details }) => ({ principal, route, details })), [
      { principal: 'bob', route: '/notes/:id/write', details: { reason: 'may not write this note', hidden: true, resource: { type: 'note', id: 'one' } } },
      { principal: 'mallory', route: '/notes/:id/read', details: { reason: 'may not read this note', hidden: true, resource: { type: 'note', id: 'one' } } },
    ], 'the refusals are recorded, what is missing is none')
  })

  t.test('what is not hidden is refused with a 403', async t => {
    const { app, guard } = await build(t, { resources: { note: { ...note, hidden: false } } })
    guard('/notes/:id', READ)
    t.equal((await post(app, '/notes/one', { id: 'mallory' })).statusCode, 403)
    t.equal((await post(app, '/notes/none', { id: 'mallory' })).statusCode, 404)
  })

  t.test('what belongs to nobody belongs to nobody', async t => {
    const { app, guard, runs } = await build(t, { resources: { note, loose: { load: find, shares: () => undefined as never } } })
    guard('/notes/:id', READ)
    guard('/loose/:id', { resource: 'loose' })
    for (const userId of [undefined, null, '']) {
      t.equal((await post(app, '/notes/orphan', { userId: userId as never })).statusCode, 404, String(userId))
      t.equal((await post(app, '/notes/blank', { userId: userId as never })).statusCode, 404, String(userId))
      t.equal((await post(app, '/loose/one', { userId: userId as never })).statusCode, 404, String(userId))
    }
    t.equal(runs.count, 0)
  })

  t.test('a rule of one’s own is asked when nothing else allows, with the action; only true allows', async t => {
    const asked: string[] = []
    const rule = (_note: Note, { id }: { id: string }, action: string) => { asked.push(`${id} ${action}`); return id === 'eve' && action === 'read' }
    const { app, guard } = await build(t, { resources: { note: { ...note, rule }, odd: { load: find, rule: () => 'yes' as never } } })
    guard('/notes/:id/read', READ)
    guard('/notes/:id/write', WRITE)
    guard('/odd/:id', { resource: 'odd' })
    t.equal((await post(app, '/notes/one/read', { id: 'alice' })).statusCode, 200)
    t.equal((await post(app, '/notes/one/read', { id: 'bob' })).statusCode, 200)
    t.equal((await post(app, '/notes/one/read', { id: 'eve' })).statusCode, 200)
    t.equal((await post(app, '/notes/one/write', { id: 'eve' })).statusCode, 404)
    t.same(asked, ['eve read', 'eve write'])
    t.equal((await post(app, '/odd/one', { id: 'eve' })).statusCode, 404)
  })

  t.test('roles that override may do everything, those that inherit from them too', async t => {
    const { app, guard } = await build(t, { roles: ROLES, resources: { note: { ...note, override: ['moderator'] } } })
    guard('/notes/:id', WRITE)
    app.get('/mine/:id', { config: { access: READ } as never }, async request => ({ mine: app.access.isOwner(request) }))
    t.equal((await post(app, '/notes/one', { id: 'mona', roles: ['moderator'] })).statusCode, 200)
    t.equal((await post(app, '/notes/one', { id: 'cleo', roles: ['chief'] })).statusCode, 200)
    t.equal((await post(app, '/notes/one', { id: 'max', roles: ['user'] })).statusCode, 404)
    t.same((await app.inject({ url: '/mine/one', headers: as({ id: 'mona', roles: ['moderator'] }) })).json(), { mine: false }, 'which does not make them the owner')
    t.same((await app.inject({ url: '/mine/one', headers: as({ id: 'alice' }) })).json(), { mine: true })
  })

  t.test('all of it may be asynchronous, also with what is merely thenable', async t => {
    const later = <T>(value: T) => new Promise<T>(resolve => { setImmediate(resolve, value) })
    const { app, guard, runs } = await build(t, {
      resources: {
        note: {
          load: (request: FastifyRequest) => ({ then: (go: (found: unknown) => void) => { setImmediate(() => go(find(request))) } }),
          owner: note.owner,
          shares: (one: Note, caller: { userId: string }) => later(note.shares(one, caller)),
          rule: (_one: Note, { id }: { id: string }) => later(id === 'eve'),
        },
      },
    })
    guard('/notes/:id', READ)
    for (const id of ['alice', 'bob', 'eve']) t.equal((await post(app, '/notes/one', { id })).statusCode, 200, id)
    t.equal((await post(app, '/notes/one', { id: 'mallory' })).statusCode, 404)
    t.equal((await post(app, '/notes/none', { id: 'alice' })).statusCode, 404)
    t.equal(runs.count, 3)
  })

  t.test('where nothing waits, the decision does not either', async t => {
    const { app, guard } = await build(t, { resources: { note, slow: { ...note, load: async (request: FastifyRequest) => find(request) } } })
    const waited: boolean[] = []
    for (const resource of ['note', 'slow']) {
      let isLater = false
      guard(`/${resource}/:id`, { resource }, {
        preValidation: (_request, _reply, done) => { queueMicrotask(() => { isLater = true }); done() },
        handler: (_request, reply) => { waited.push(isLater); reply.send({}) },
      })
    }
    for (const resource of ['note', 'slow']) t.equal((await post(app, `/${resource}/one`, { id: 'alice' })).statusCode, 200)
    t.same(waited, [false, true])
  })

  t.test('a load that fails is a 500 that tells nothing, whether it throws or rejects', async t => {
    const boom = () => { throw new Error('postgres://portal:hunter2@db/notes') }
    const { app, guard, runs } = await build(t, {
      resources: { sync: { load: boom, owner: note.owner }, async: { load: async () => boom(), owner: note.owner }, shares: { load: find, shares: async () => boom() } },
    })
    for (const resource of ['sync', 'async', 'shares']) guard(`/${resource}/:id`, { resource })
    for (const resource of ['sync', 'async', 'shares']) {
      const answer = await post(app, `/${resource}/one`, { id: 'bob' })
      t.equal(answer.statusCode, 500)
      t.notMatch(answer.body, /hunter2|postgres|notes/)
    }
    t.equal(runs.count, 0)
  })

  t.test('null and undefined are missing; what is loaded otherwise is there', async t => {
    const { app, guard } = await build(t, { resources: { nothing: { load: () => undefined, rule: () => true }, zero: { load: () => 0, rule: () => true } } })
    guard('/nothing', { resource: 'nothing' })
    guard('/zero', { resource: 'zero' })
    t.equal((await post(app, '/nothing', {})).statusCode, 404)
    t.equal((await post(app, '/zero', {})).statusCode, 200)
  })

  t.test('the hooks and the handler of a route see the object; resourceOf gives it and refuses every other kind', async t => {
    const { app, guard } = await build(t, { resources: { note, other: note } })
    const seen: unknown[] = []
    guard('/hooks/:id', READ, {
      preValidation: async request => { seen.push(request.resource) },
      preHandler: async request => { seen.push(request.resource) },
    })
    guard('/right/:id', READ, { handler: async request => resourceOf(request, 'note' as never) })
    guard('/wrong/:id', READ, { handler: async request => resourceOf(request, 'other' as never) })
    guard('/none/:id', 'user', { handler: async request => resourceOf(request, 'note' as never) })
    guard('/proto/:id', 'user', { handler: async request => resourceOf(request, 'constructor' as never) })
    await post(app, '/hooks/one', { id: 'alice' })
    t.same(seen, [null, NOTES.one], 'loaded after validation, before the first preHandler hook of the service')
    t.same((await post(app, '/right/one', { id: 'alice' })).json(), NOTES.one)
    for (const url of ['/wrong/one', '/none/one', '/proto/one']) t.equal((await post(app, url, { id: 'alice' })).statusCode, 500, url)
  })

  t.test('nothing is loaded for whom the rest of the rule refuses, nor for input that is invalid', async t => {
    let loads = 0
    const { app, guard } = await build(t, { roles: ROLES, resources: { note: { ...note, load: (request: FastifyRequest) => { loads++; return find(request) } } } })
    guard('/notes/:id', { ...WRITE, permissions: 'posts:write' }, { schema: { body: { type: 'object', required: ['a'] } } })
    t.equal((await post(app, '/notes/one', { id: 'alice' }, { payload: { a: 1 } })).statusCode, 403)
    t.equal((await post(app, '/notes/one', { id: 'alice', roles: ['user'] }, { payload: {} })).statusCode, 400)
    t.equal(loads, 0)
    t.equal((await post(app, '/notes/one', { id: 'alice', roles: ['user'] }, { payload: { a: 1 } })).statusCode, 200)
    t.equal(loads, 1)
  })
})

t.test('refusals come before the body is read', async t => {
  const { app, guard, runs } = await build(t, { roles: ROLES })
  guard('/small', { roles: 'admin' }, { bodyLimit: 100 })
  const bodies = {
    'over the limit': { payload: JSON.stringify({ a: 'x'.repeat(1000) }), type: 'application/json', status: 413 },
    malformed: { payload: '{"a":', type: 'application/json', status: 400 },
    'of another media type': { payload: 'a=1', type: 'text/csv', status: 415 },
  }
  for (const [name, { payload, type, status }] of Object.entries(bodies)) {
    const send = (caller?: Parameters<typeof as>[0]) => post(app, '/small', caller, { payload, headers: { 'content-type': type } })
    t.equal((await send()).statusCode, 401, `a stranger's body ${name}`)
    t.equal((await send({ roles: ['user'] })).statusCode, 403, `a body ${name} of somebody who may not`)
    t.equal((await send({ roles: ['admin'] })).statusCode, status, `a body ${name} of somebody who may`)
  }
  t.equal(runs.count, 0)

  await t.test('over a socket: the answer comes while the body has not even begun', async t => {
    await app.listen({ host: '127.0.0.1', port: 0 })
    const socket = connect((app.server.address() as AddressInfo).port, '127.0.0.1')
    t.teardown(() => { socket.destroy() })
    socket.write('POST /small HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n')
    const [data] = await once(socket, 'data') as [Buffer]
    t.match(data.toString(), /^HTTP\/1\.1 401 /)
  })
})

t.test('misconfiguration stops boot', async t => {
  const refuses = (title: string, options: Record<string, unknown>, message: RegExp) => t.test(title, async t => {
    await t.rejects(build(t, options), { code: 'FST_BASTION_ACCESS_MISCONFIGURED', message })
  })
  await refuses('a role that inherits from itself', { roles: { a: { inherits: ['b'] }, b: { inherits: ['c'] }, c: { inherits: ['a'] } } }, /a → b → c → a inherits from itself/)
  await refuses('a role that inherits from an unknown one', { roles: { a: { inherits: ['ghost'] } } }, /a inherits from ghost, which is not a role/)
  await refuses('a role that inherits from a name of Object.prototype', { roles: { a: { inherits: ['constructor'] } } }, /constructor, which is not a role/)
  for (const pattern of ['p*', 'posts*', '*:read', 'posts:*:read', '**', 'posts:**']) {
    await refuses(`the permission ${pattern}`, { roles: { a: { permissions: ['posts:read', pattern] } } }, /is not a permission/)
  }
  await refuses('a wildcard that stands for nothing', { roles: { a: { permissions: ['posts:read', 'psots:*'] } } }, /"psots:\*" stands for no known permission/)
  await refuses('a permission with a blank in it', { roles: { a: { permissions: ['posts: read'] } } }, /"posts: read" is not a name/)
  await refuses('a wildcard among the known permissions', { permissions: ['posts:*'] }, /"posts:\*" is not a name/)
  await refuses('a misspelt option', { rolls: {} }, /rolls/)
  await refuses('a misspelt part of a role', { roles: { a: { permission: ['x'] } } }, /roles\.a\.permission/)
  await refuses('a resource that cannot be loaded', { resources: { note: { owner: () => null } } }, /resources\.note: load/)
  await refuses('a misspelt part of a resource', { resources: { note: { ...note, hiden: false } } }, /resources\.note: hiden/)
  await refuses('a resource that nobody could ever touch', { resources: { note: { load: find } } }, /resources\.note: nobody could ever be allowed/)
  await refuses('an unknown role that overrides', { roles: ROLES, resources: { note: { ...note, override: ['admn'] } } }, /override: admn is not a role/)

  const objects = (title: string, policy: unknown, message: RegExp) => t.test(`a route with ${title}`, async t => {
    const { app, guard } = await build(t, { roles: ROLES, resources: { note } })
    guard('/route', policy)
    await t.rejects(async () => { await app.ready() }, { code: 'FST_BASTION_PLAN_REFUSED', message })
  })
  await objects('no policy', undefined, /POST \/route: no access policy/)
  await objects('null for a policy', null, /no access policy/)
  await objects('a policy that is a word', 'admin', /"admin" is no policy/)
  await objects('true for a policy', true, /true is no policy/)
  await objects('an empty rule', {}, /empty rule/)
  await objects('a rule whose step-up is off', { stepUp: false }, /empty rule/)
  await objects('a list for a rule', ['admin'], /access/)
  await objects('an empty list of roles', { roles: [] }, /roles/)
  await objects('an empty list of permissions', { permissions: [] }, /permissions/)
  await objects('an empty name', { roles: '' }, /roles/)
  await objects('a misspelt part', { role: 'admin' }, /role/)
  await objects('an unknown role', { roles: 'root' }, /unknown role "root"/)
  await objects('an unknown permission', { permissions: ['posts:read', 'posts:raed'] }, /unknown permission "posts:raed"/)
  await objects('a wildcard for a permission', { permissions: 'posts:*' }, /unknown permission "posts:\*"/)
  await objects('an unknown resource', { resource: 'nte' }, /unknown resource "nte"/)
  for (const name of ['__proto__', 'constructor', 'toString']) {
    await objects(`the role ${name}`, { roles: name }, /unknown role/)
    await objects(`the permission ${name}`, { permissions: name }, /unknown permission/)
    await objects(`the resource ${name}`, { resource: name }, /unknown resource/)
  }
  await objects('an action and no resource', { roles: 'admin', action: 'write' }, /action "write" is done to nothing/)
  await objects('an unknown kind of credential', { via: ['cookie'] }, /via/)
  await objects('no kind of credential', { via: [] }, /via/)
  await objects('a step-up of no time', { stepUp: { maxAge: 0 } }, /stepUp/)
  await objects('a step-up of nothing', { stepUp: {} }, /stepUp/)
  await objects('a step-up of no factors', { stepUp: { factors: [] } }, /stepUp/)
  await objects('a step-up of an unknown factor', { stepUp: { factors: 'passkey' } }, /stepUp/)
})
