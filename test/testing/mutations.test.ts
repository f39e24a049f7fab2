/** Whether the attack kit finds what it should: the small service, weakened in one place after another, and what is found each time. */
import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import t from 'tap'
import { NotFound } from '../../plugins/errors.js'
import type { PlannedRoute } from '../../plugins/plan/index.js'
import { asText, attack, CATALOGUE, type FamilyName, type FindingId, type Policy } from '../../plugins/testing/index.js'
import { POLICY } from './promised.js'
import { QUOTA } from './quotas.js'
import { ACCESS_KEY, build, REFRESH_KEY, type Weakness } from './service.js'

t.setTimeout(600_000)

interface Mutation extends Weakness {
  finds: FindingId
  /** What is weak. */
  what: string
  policy?: Policy
  /** Routes, where not all are attacked. */
  only?: string[]
  families?: FamilyName[]
}

type Chains = Record<'edge' | 'guard' | 'parsed' | 'resource' | 'view' | 'sent', unknown>

const ofQuota = (limits: object) => ({ 'GET /quota': { access: { via: ['bearer', 'session', 'key'] }, limits } })
const ofPlans: Policy = { ...POLICY, routes: { ...POLICY.routes, 'GET /quota': { access: { via: ['bearer', 'session', 'key'] }, limits: { windows: ['8/minute'], by: 'plan' } } } }

/** Takes the steps of a phase out of the plan of a route. */
const without = (phase: keyof Chains, name: string) => (app: FastifyInstance) => {
  const route = app.plan.routes.find(({ method, url }) => `${method} ${url}` === name)! as PlannedRoute & { chains: Chains }
  route.chains[phase] = phase === 'edge' ? route.chains.guard : null
}

const onSend = (change: (reply: FastifyReply, payload: unknown, request: FastifyRequest) => unknown) => (app: FastifyInstance) => {
  app.addHook('onSend', async function undo (request, reply, payload) { return change(reply, payload, request) ?? payload })
}

const preValidation = (change: (body: Record<string, unknown>, request: FastifyRequest) => void) => (app: FastifyInstance) => {
  app.addHook('preValidation', async function undo (request) { if (typeof request.body === 'object' && request.body !== null) change(request.body as Record<string, unknown>, request) })
}

const KNOWN = ['text', 'stars', 'color', 'name']
/** Of what the small service takes nothing: see taking.ts. */
const TAKEN_ELSEWHERE: readonly string[] = ['input.password', 'input.markup', 'uploads.content', 'uploads.name', 'uploads.size', 'outbound.reached']

/** A reader of tokens that somebody wrote by hand, who forgot one thing. */
const handWritten = (forgets: 'signature' | 'expiry' | 'audience' | 'kind' | 'end') => (app: FastifyInstance) => {
  app.identity.reader({
    name: 'hand-written',
    takesBearer: text => text.split('.').length === 3,
    read ({ headers }) {
      const { authorization = String(headers['x-moved'] ?? '') } = headers
      const [head = '', body = '', signature = ''] = authorization.replace('Bearer ', '').split('.')
      if (signature === '' && forgets !== 'signature') return null
      try {
        const claims = JSON.parse(Buffer.from(body, 'base64url').toString()) as { sub: string, roles?: string[], exp?: number, aud?: string, iss?: string, auth_time: number, jti: string }
        const isSigned = [ACCESS_KEY, ...forgets === 'kind' ? [REFRESH_KEY] : []].some(key => {
          const made = createHmac('sha256', key).update(`${head}.${body}`).digest()
          const given = Buffer.from(signature, 'base64url')
          return made.length === given.length && timingSafeEqual(made, given)
        })
        const isHs256 = (JSON.parse(Buffer.from(head, 'base64url').toString()) as { alg: string }).alg === 'HS256'
        if (forgets !== 'signature' && (!isSigned || !isHs256)) return null
        if (forgets !== 'expiry' && !(claims.exp! > Date.now() / 1000)) return null
        if (forgets !== 'audience' && forgets !== 'kind' && (claims.aud !== 'https://api.example' || claims.iss !== 'https://api.example')) return null
        return { principal: { kind: 'user', id: claims.sub, userId: claims.sub, roles: claims.roles ?? ['member'], via: 'bearer', authTime: claims.auth_time, credentialId: claims.jti } }
      } catch {
        return null
      }
    },
  })
}

const trusting = (header: string) => (app: FastifyInstance) => {
  app.identity.reader({
    name: 'trusting',
    read: ({ headers }) => headers[header] === undefined ? null : { principal: { kind: 'user', id: 'x', userId: 'x', roles: ['admin'], via: 'bearer', authTime: Date.now() / 1000, credentialId: 'x' } },
  })
}

const counted = () => {
  let count = 0x51f2_0000
  return () => `${(count += 1).toString(16)}0000000000000000`
}

const MUTATIONS: readonly Mutation[] = [
  { finds: 'authorization.open', what: 'a route whose policy was forgotten: it is public', config: { 'GET /reports': { access: 'public' } }, policy: POLICY },
  { finds: 'authorization.open', what: 'the plan of a route without its guard', after: without('guard', 'GET /people/:personId') },
  { finds: 'authorization.role', what: 'a permission that was dropped', config: { 'GET /reports': { access: 'user' } }, policy: POLICY },
  { finds: 'authorization.role', what: 'a role that was dropped', config: { 'POST /people/:personId/ban': { access: { stepUp: true } } }, policy: POLICY },
  { finds: 'authorization.object', what: 'the plan of a route without the check of its object', after: without('resource', 'GET /notes/:noteId') },
  { finds: 'authorization.object', what: 'a route that loads its object by itself', config: { 'GET /notes/:noteId': { access: 'user' } } },
  { finds: 'authorization.object', what: 'a rule that lets everybody in', notes: { note: { load: () => ({ id: 'x', owner: 'y', text: 'z' }), owner: (note: unknown) => (note as { owner: string }).owner, rule: () => true } } as never, policy: POLICY },
  { finds: 'authorization.hidden', what: 'a loader that tells of objects of others', tells: true },
  { finds: 'authorization.head', what: 'the plan of HEAD without its guard', after: without('guard', 'HEAD /reports') },
  { finds: 'authorization.method', what: 'a server that believes which method a header claims', server: { fastify: { rewriteUrl: request => request.headers['x-http-method-override'] === undefined ? request.url! : '/search' } } },
  { finds: 'authorization.step-up', what: 'a fresh proof that is asked for no more', config: { 'POST /people/:personId/ban': { access: { roles: 'admin' } } }, policy: POLICY },
  { finds: 'authorization.grant', what: 'a route that gives keys whatever scopes are asked for', quotas: { givesAll: true } },
  { finds: 'authorization.denied', what: 'a route that is stricter than its policy', config: { 'GET /reports': { access: { roles: 'admin' } } }, policy: POLICY },
  { finds: 'input.query', what: 'a query that is narrower in the policy', policy: { ...POLICY, routes: { ...POLICY.routes, 'GET /reports': { access: { permissions: 'reports:read' }, query: { type: 'object', additionalProperties: false, properties: { from: { type: 'integer', minimum: 0, maximum: 50 } } } } } }, only: ['GET /reports'] },
  { finds: 'authorization.unlisted', what: 'a route that the policy does not know', policy: { ...POLICY, routes: Object.fromEntries(Object.entries(POLICY.routes).filter(([name]) => name !== 'GET /search')) } },
  { finds: 'credentials.garbage', what: 'a header that is believed', before: trusting('x-user-id') },
  { finds: 'credentials.forged', what: 'a reader that does not look at signatures', before: handWritten('signature') },
  { finds: 'credentials.algorithm', what: 'a reader that does not look at signatures, nor at alg', before: handWritten('signature') },
  { finds: 'credentials.expired', what: 'a reader that does not look at exp', before: handWritten('expiry') },
  { finds: 'credentials.audience', what: 'a reader that does not look at aud', before: handWritten('audience') },
  { finds: 'credentials.kind', what: 'a reader that takes refresh tokens', before: handWritten('kind') },
  { finds: 'credentials.revoked', what: 'a reader that does not know which tokens were ended', before: handWritten('end'), server: { fastify: { rewriteUrl (request) { if (request.headers.authorization !== undefined) { request.headers['x-moved'] = request.headers.authorization; delete request.headers.authorization } return request.url! } } } },
  { finds: 'credentials.several', what: 'a server that takes the cookie away where there is a token', server: { fastify: { rewriteUrl (request) { if (request.headers.authorization !== undefined) { delete request.headers.cookie } return request.url! } } } },
  { finds: 'credentials.session', what: 'a cookie that is believed', before: trusting('x-cookie'), server: { fastify: { rewriteUrl (request) { if (request.headers.cookie !== undefined) { request.headers['x-cookie'] = request.headers.cookie; delete request.headers.cookie } return request.url! } } } },
  { finds: 'credentials.fixation', what: 'a hook that keeps the cookie that was sent', before: onSend((reply, _payload, { headers: { cookie } }) => { if (cookie !== undefined) reply.header('set-cookie', `${cookie}; HttpOnly; SameSite=Lax`) }) },
  { finds: 'credentials.csrf', what: 'an origin of others that is trusted', suite: options => ({ ...options, csrf: { ...options.csrf!, origins: ['https://attacker.example'] } }) },
  { finds: 'credentials.csrf', what: 'a route that checks nothing', config: { 'POST /notes': { access: { permissions: 'notes:write' }, csrf: false } } },
  { finds: 'mutations.path', what: 'a server that takes endings and case away after a hook has let them pass', server: { fastify: { rewriteUrl: request => request.url!.endsWith('.json') ? '/search' : request.url! } } },
  { finds: 'mutations.malformed', what: 'a parser that is glad of anything', before: app => { app.removeContentTypeParser('application/json'); app.addContentTypeParser('application/json', { parseAs: 'string' }, ({ url }, body, done) => { try { done(null, JSON.parse(String(body))) } catch { done(null, url === '/session' ? { name: 'x' } : { text: 'x' }) } }) } },
  { finds: 'mutations.media-type', what: 'a parser for other media types, and a plan that does not look at them', before: app => { app.addContentTypeParser('text/plain', { parseAs: 'string' }, (_request, _body, done) => { done(null, { name: 'x' }) }) }, after: without('guard', 'POST /session') },
  { finds: 'mutations.host', what: 'the plan of a route without its edge', after: without('edge', 'GET /search') },
  { finds: 'assignment.undeclared', what: 'a hook that drops in silence what is not declared', before: preValidation(body => { for (const name of Object.keys(body)) if (!KNOWN.includes(name)) delete body[name] }) },
  {
    finds: 'assignment.prototype',
    what: 'a hook that merges what comes in',
    before: app => {
      app.removeContentTypeParser('application/json')
      app.addContentTypeParser('application/json', { parseAs: 'string' }, (_request, body, done) => {
        const merge = (into: Record<string, unknown>, from: Record<string, unknown>) => { for (const [name, value] of Object.entries(from)) if (typeof value === 'object' && value !== null && into[name] !== undefined) merge(into[name] as never, value as never); else into[name] = value }
        const merged = {}
        try { merge(merged, JSON.parse(String(body))); done(null, merged) } catch (error) { done(error as Error) }
      })
    }
  },
  { finds: 'input.type', what: 'a hook that makes texts of everything', before: preValidation(body => { if (body.text !== undefined) body.text = String(body.text) || 'x' }) },
  { finds: 'input.bounds', what: 'a hook that cuts what is too long', before: preValidation(body => { if (typeof body.text === 'string') body.text = body.text.slice(0, 200) }) },
  { finds: 'input.missing', what: 'a hook that fills in what is missing', before: preValidation((body, { url }) => { if (url !== '/session') body.text ??= 'x' }) },
  { finds: 'input.query', what: 'a hook that takes the query away', before: app => { app.addHook('preValidation', async function undo (request) { request.query = {} }) } },
  { finds: 'input.card', what: 'the plan of a route without its look at bodies', after: without('parsed', 'POST /notes') },
  { finds: 'input.injection', what: 'a statement that ends where a quotation mark stands', before: preValidation(body => { if (String(body.text).split("'").length % 2 === 0) throw new Error('unterminated') }) },
  { finds: 'input.replay', what: 'a ticket that is good for ever', ticketsLast: true, policy: POLICY },
  { finds: 'input.race', what: 'a ticket that is looked at, and spent a moment later', ticketsRace: true, policy: POLICY },
  { finds: 'exposure.undeclared', what: 'a hook that adds a field', before: onSend((_reply, payload) => typeof payload === 'string' && payload.startsWith('{"id"') ? payload.replace('{', '{"internal":1,') : payload) },
  { finds: 'exposure.hidden', what: 'a field that everybody sees', emailIsOpen: true, policy: POLICY },
  { finds: 'exposure.canary', what: 'a secret in a field that is declared', person: ({ passwordHash }) => ({ bio: passwordHash }) },
  { finds: 'exposure.secret', what: 'a hash in a field that is declared', note: (_request, note) => ({ ...note, text: '$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA' }) },
  { finds: 'limits.exceeded', what: 'an exemption of everybody', suite: options => ({ ...options, limits: { ...options.limits, exempt: () => true } }) },
  { finds: 'limits.exceeded', what: 'an exemption of who is signed in', suite: options => ({ ...options, limits: { ...options.limits, exempt: ({ principal }) => principal?.via === 'bearer' } }) },
  { finds: 'limits.exceeded', what: 'an exemption of keys', suite: options => ({ ...options, limits: { ...options.limits, exempt: ({ principal }) => principal?.via === 'key' } }) },
  { finds: 'limits.exceeded', what: 'a plan that nobody looks at', config: ofQuota({ windows: QUOTA.windows }), policy: POLICY, only: ['GET /quota'] },
  { finds: 'limits.race', what: 'a count that comes a moment late', config: { 'GET /quota': { access: 'public', limits: false } }, quotas: { countsLate: true }, policy: { ...POLICY, routes: { ...POLICY.routes, 'GET /quota': { access: 'public', limits: { windows: ['4/minute'], by: 'caller' } } } }, only: ['GET /quota'] },
  { finds: 'limits.shared', what: 'a budget of everybody at one address', config: ofQuota({ ...QUOTA, by: 'address' }), policy: POLICY, only: ['GET /quota'] },
  { finds: 'limits.shared', what: 'one budget for all', config: ofQuota({ windows: ['8/minute'], by: 'route' }), policy: ofPlans, only: ['GET /quota'] },
  { finds: 'limits.variant', what: 'a caller who has a budget at each address', config: ofQuota({ ...QUOTA, by: ['caller', 'address'] }), policy: POLICY, only: ['GET /quota'] },
  { finds: 'limits.variant', what: 'a credential that has a budget of its own', config: ofQuota({ ...QUOTA, by: ({ principal }: FastifyRequest) => principal?.credentialId ?? '' }), policy: POLICY, only: ['GET /quota'] },
  { finds: 'limits.variant', what: 'a HEAD of callers that is not counted', suite: options => ({ ...options, limits: { ...options.limits, exempt: ({ method, principal }) => method === 'HEAD' && principal !== null } }), only: ['GET /quota'] },
  { finds: 'limits.variant', what: 'a budget of a plan that each of its callers has alone', config: ofQuota({ windows: ['8/minute'] }), policy: ofPlans, only: ['GET /quota'] },
  { finds: 'limits.variant', what: 'forwarded addresses of anybody are believed', server: { trustProxy: () => true } },
  { finds: 'limits.retry', what: 'a hook that takes Retry-After away', before: onSend(reply => { reply.removeHeader('retry-after') }) },
  { finds: 'answers.headers', what: 'a hook that takes a header away', before: onSend(reply => { reply.removeHeader('x-content-type-options') }) },
  { finds: 'answers.headers', what: 'a policy that frames everything', before: onSend(reply => { reply.header('content-security-policy', "default-src *; frame-ancestors *; script-src 'unsafe-inline'") }) },
  { finds: 'answers.cache', what: 'a hook that lets caches keep refusals', before: onSend(reply => { reply.header('cache-control', 'public, max-age=60') }) },
  { finds: 'answers.names', what: 'a hook that names the server', before: onSend(reply => { reply.header('x-powered-by', 'Fastify') }) },
  { finds: 'answers.cors', what: 'a hook that gives every origin leave', before: onSend((reply, _payload, { headers: { origin } }) => { if (origin !== undefined) reply.header('access-control-allow-origin', origin) }) },
  { finds: 'answers.cookie', what: 'a hook that opens cookies to scripts', before: onSend(reply => { const cookies = [reply.getHeader('set-cookie') ?? []].flat().map(String); if (cookies.length > 0) reply.removeHeader('set-cookie').header('set-cookie', cookies.map(one => one.replace(/; HttpOnly/i, ''))) }), families: ['authorization', 'answers'] },
  { finds: 'answers.markup', what: 'a page that repeats what was not found', before: onSend((reply, _payload, { url }) => reply.statusCode === 404 ? (reply.type('text/html'), `There is no ${decodeURIComponent(url)}`) : undefined) },
  { finds: 'answers.redirect', what: 'a hook that takes a slash away', before: onSend((reply, _payload, { url }) => { if (url.startsWith('//')) reply.code(301).header('location', url.slice(0, -1)) }) },
  { finds: 'answers.form', what: 'a hook that answers in a form of its own', before: onSend((reply, payload) => reply.statusCode === 404 ? (reply.type('application/json'), '{"message":"not found"}') : payload) },
  { finds: 'answers.challenge', what: 'a hook that takes the challenge away', before: onSend(reply => { reply.removeHeader('www-authenticate') }), families: ['authorization', 'answers'] },
  { finds: 'leaks.canary', what: 'a hook that tells what went wrong', before: app => { app.addHook('onError', async function undo (_request, reply, error) { reply.header('x-error', String(error.message).replace(/[^ -~]/g, '')) }) } },
  { finds: 'leaks.internal', what: 'a message of the database in a refusal', note: ({ params }) => { if ((params as { noteId: string }).noteId !== 'x') throw Object.assign(new Error('invalid input syntax for type uuid'), { statusCode: 400 }) }, families: ['authorization', 'leaks'] },
  { finds: 'leaks.accounts', what: 'a sign-in that tells who is unknown', before: preValidation((body, { url }) => { if (url === '/session' && body.name !== 'bob') throw new NotFound() }), policy: POLICY },
  { finds: 'traces.stored', what: 'passwords that are kept as they were typed', traces: { kept: password => password } },
  { finds: 'traces.stored', what: 'passwords that are only written otherwise', traces: { kept: password => Buffer.from(password).toString('base64') } },
  { finds: 'traces.erased', what: 'an erasure that erases nothing', traces: { staysErased: true } },
  { finds: 'traces.lines', what: 'a line that is written as it was sent', traces: { logs: ({ body, url }) => `asked for ${url} with ${(body as { text?: string } | undefined)?.text}` } },
  { finds: 'traces.logged', what: 'a line with the credential', traces: { logs: ({ headers }) => `asked by ${headers.authorization}` } },
  { finds: 'traces.unrecorded', what: 'a ban of which nothing is recorded', config: { 'POST /people/:personId/ban': { access: { roles: 'admin', stepUp: true } } } },
  { finds: 'traces.unrecorded', what: 'a change that the policy wants recorded', policy: { ...POLICY, routes: { ...POLICY.routes, 'POST /notes': { access: { permissions: 'notes:write' }, audit: 'data_modification' } } } },
  { finds: 'traces.unrecorded', what: 'a trail that keeps no refusals', traces: { records: ({ type }) => type !== 'access_denied' } },
  { finds: 'traces.predictable', what: 'a token that is a hash of the address', traces: { resetToken: email => createHash('sha256').update(email).digest('base64url') } },
  { finds: 'traces.predictable', what: 'a token that is the same until it is used', traces: { resetToken: email => createHmac('sha256', ACCESS_KEY).update(email).digest('hex') } },
  { finds: 'traces.predictable', what: 'a token that counts', traces: { resetToken: counted() } },
  { finds: 'traces.predictable', what: 'a token of the time', traces: { resetToken: () => Date.now().toString(36) } },
  // Of digits alone it would be a code that people type, which may be as short.
  { finds: 'traces.predictable', what: 'a token of few characters', traces: { resetToken: () => `f${randomBytes(3).toString('hex')}` } },
  { finds: 'leaks.failure', what: 'a handler that stumbles', reports: () => { throw new TypeError('oops') }, families: ['leaks', 'authorization'] },
]

t.test('the service as it is has no finding', async t => {
  const { app, options } = await build(t)
  for (const policy of [undefined, POLICY]) {
    const report = await attack(app, { ...options, policy })
    t.strictSame(report.findings, [], asText(report))
    t.strictSame(report.unproven, [])
    const proven = report.checks.filter(({ state }) => state === 'held').map(({ id }) => id)
    t.strictSame(Object.keys(CATALOGUE).filter(id => !TAKEN_ELSEWHERE.includes(id) && !proven.includes(id as FindingId)), policy === undefined ? ['authorization.unlisted', 'input.replay', 'input.race', 'leaks.accounts'] : ['authorization.unlisted'], 'every check was tried')
  }
})

t.test('each weakness is found by its name', async t => {
  const missed: string[] = []
  for (const { finds, what, policy, only, families = [finds.split('.')[0] as FamilyName], ...weak } of MUTATIONS) {
    const { app, options } = await build(t, weak)
    const { findings } = await attack(app, { ...options, policy, only, families })
    await app.close()
    const isFound = findings.some(({ id }) => id === finds)
    if (!isFound) missed.push(`${finds}: ${what}: ${[...new Set(findings.map(({ id }) => id))].join(', ') || 'no finding'}`)
    for (const { reproduce, route, severity, id } of findings) t.ok(CATALOGUE[id].severity === severity && route !== '' && (reproduce.startsWith('curl ') || id === 'authorization.unlisted'), `${id} ${route}`)
  }
  t.strictSame(missed, [])
  const kinds = new Set(MUTATIONS.map(({ finds }) => finds))
  t.comment(`${MUTATIONS.length - missed.length} of ${MUTATIONS.length} weaknesses were found, of ${kinds.size} kinds`)
  t.ok(kinds.size >= 30)
})
