/** README says today's truth: its samples run, its tables are those of the source. */
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises'
import { join, relative } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import t, { type Test } from 'tap'
import ts from 'typescript'
import { claimsIn, coverage, notCounted, tableOf } from './asvs/coverage.js'
import { RISKS } from '../demo/lab/attack.js'
import { attacks } from '../demo/lab/range.js'
import { redis } from './services.js'

t.setTimeout(600_000)
const ROOT = fileURLToPath(new URL('../', import.meta.url))
const README = join(ROOT, 'README.md')
/** `README_UPDATE=1 npx tap test/readme.test.ts` writes the tables anew. */
const isUpdate = process.env.README_UPDATE === '1'

interface Option { description?: string, default?: unknown, properties?: Record<string, Option>, type?: string, anyOf?: Option[], const?: unknown, items?: Option }

async function pluginModules (): Promise<{ concern: string, module: Record<string, unknown> }[]> {
  const files = (await readdir(join(ROOT, 'plugins'), { recursive: true })).filter(name => name.endsWith('.ts') && name !== 'index.ts').sort()
  return Promise.all(files.map(async name => ({
    concern: name.replace(/(?:\/index)?\.ts$/, ''),
    module: await import(pathToFileURL(join(ROOT, 'plugins', name)).href) as Record<string, unknown>,
  })))
}

t.test('the table of error codes is that of the exported errors', async t => {
  const rows = new Map<string, string>()
  for (const { concern, module } of await pluginModules()) {
    for (const value of Object.values(module)) {
      const error = errorOf(value)
      if (error !== null) rows.set(error.code, `| \`${error.code}\` | ${error.statusCode} | ${error.message.replace('%s', '…')} | ${concern} |`)
    }
  }
  t.ok(rows.size > 20, 'the errors were found')
  await holds(t, 'codes', ['| code | status | message | concern |', '|---|---|---|---|', ...[...rows.keys()].sort().map(code => rows.get(code)!)].join('\n'))
})

t.test('the tables of options are those of the schemas', async t => {
  const lines: string[] = []
  for (const { concern, module } of await pluginModules()) {
    const schema = Object.entries(module).find(([name]) => name.endsWith('Options'))?.[1] as Option | undefined
    if (schema?.properties === undefined) continue
    lines.push(`**${concern}**`, '', '| option | default | |', '|---|---|---|')
    for (const [name, option] of Object.entries(schema.properties)) {
      lines.push(`| \`${name}\` | ${option.default === undefined ? '' : `\`${JSON.stringify(option.default)}\``} | ${option.description ?? ''} |`)
    }
    lines.push('')
  }
  await holds(t, 'options', lines.join('\n').trim())
})

t.test('the table of ASVS is what the titles of the tests prove, and counts nothing that no control stands beside', async t => {
  const found = await coverage()
  await holds(t, 'asvs', tableOf(found))
  for (const [id, claims] of found.claims) if (claims.every(({ isControlled }) => !isControlled)) t.ok(notCounted(found).some(line => line.includes(id)), `${id} is told to be not counted`)
  const without = { ...found, claims: new Map([...found.claims].map(([id, claims]) => [id, claims.map(claim => ({ ...claim, isControlled: false }))])) }
  t.match(tableOf(without), `| **all** | 0/49 | 0/92 | 0/34 | 0/${found.suite.length} |`, 'negative control: the same claims without controls count for nothing')

  const claimed = (text: string) => claimsIn(ts.createSourceFile('x.ts', text.replace('CLAIM', '[' + 'ASVS 1.1.1]'), ts.ScriptTarget.ES2022, true))
  t.same(claimed("t.test('a CLAIM', one)\nt.test('negative control: a', other)"), [['1.1.1', true]], 'right below')
  t.same(claimed("t.test('a', async t => { t.test('b CLAIM', one); t.test('c', two); t.test('d', async t => { t.ok(x, 'negative control: d') }) })"), [['1.1.1', false]], 'not where it stands in another subtest')
})

t.test('the table of attacks is that of the lab', async t => {
  const known = [...(await attacks()).values()]
  const rows = Object.entries(RISKS).map(([risk, title]) => {
    const of = known.filter(attack => attack.risk === risk)
    const { title: one, refusal: { status, code } } = of[0]!
    return `| ${risk} ${title} | ${of.length} | ${one} | succeeds | ${status}${code === undefined ? '' : ` \`${code}\``} |`
  })
  await holds(t, 'attacks', ['| risk (OWASP API Security, 2023) | attacks | one of them | twin | portal |', '|---|---|---|---|---|', ...rows].join('\n'))
})

for (const [name, check] of Object.entries({
  service: `
    const refused = await app.inject('http://localhost/posts')
    if (refused.statusCode !== 401 || refused.json().code !== 'FST_BASTION_ACCESS_UNAUTHENTICATED') throw new Error('open: ' + refused.body)
    if (refused.headers['x-content-type-options'] !== 'nosniff' || refused.headers['x-ratelimit-limit'] === undefined) throw new Error('headers are missing')`,
  'sign-in': `
    const post = payload => app.inject({ method: 'POST', url: 'http://localhost/login', payload })
    if ((await post({ username: 'ada', password: 'wrong' })).statusCode !== 401) throw new Error('wrong password passed')
    const { access_token: token } = (await post({ username: 'ada', password: 'right password' })).json()
    const get = (url, headers = { authorization: 'Bearer ' + token }) => app.inject({ url: 'http://localhost' + url, headers })
    const own = await get('/orders/own')
    if (own.statusCode !== 200 || own.body !== '{"id":"own","total":12}') throw new Error('own order: ' + own.body)
    if ((await get('/orders/foreign')).statusCode !== 404) throw new Error('foreign order')
    if ((await get('/me')).json().id !== 'u1') throw new Error('me')
    if ((await get('/me', {})).statusCode !== 401) throw new Error('anonymous')`,
  'second-factor': `
    const { Secret, TOTP } = await import('otpauth')
    const post = (url, payload, token) => app.inject({ method: 'POST', url: 'http://localhost' + url, payload, headers: token === undefined ? {} : { authorization: 'Bearer ' + token } })
    const login = () => post('/login', { username: 'ada', password: 'right password' })
    const { access_token: token } = (await login()).json()
    const { secret } = (await post('/mfa', undefined, token)).json()
    const codeOf = steps => new TOTP({ secret: Secret.fromBase32(secret) }).generate({ timestamp: Date.now() + steps * 30_000 })
    if ((await post('/mfa/confirm', { code: codeOf(0) }, token)).json().length !== 10) throw new Error('recovery codes')
    const asked = await login()
    if (asked.statusCode !== 401 || asked.json().code !== 'FST_BASTION_MFA_REQUIRED') throw new Error('not asked: ' + asked.body)
    const { mfaToken } = asked.json()
    if ((await post('/login/code', { mfaToken, code: 'wrong' })).statusCode !== 401) throw new Error('wrong code')
    if ((await post('/login/code', { mfaToken, code: codeOf(1) })).statusCode !== 200) throw new Error('right code')
    if ((await post('/login/code', { mfaToken, code: codeOf(1) })).statusCode !== 401) throw new Error('twice')`,
  passkeys: `
    await app.ready()
    const { authenticator } = await import('../test/passkeys/authenticator.js')
    const device = authenticator()
    const post = (url, payload, token) => app.inject({ method: 'POST', url: 'http://localhost' + url, payload, headers: token === undefined ? {} : { authorization: 'Bearer ' + token } })
    const { access_token: token } = await app.tokens.issue({ id: 'u1', roles: ['member'] })
    const origin = 'https://app.example.com'
    const made = await post('/passkeys', device.create((await post('/passkeys/options', undefined, token)).json(), { origin }), token)
    if (made.statusCode !== 201) throw new Error('not made: ' + made.body)
    const shown = device.get((await post('/login/options')).json(), { origin })
    const signedIn = await post('/login/passkey', shown)
    if (signedIn.statusCode !== 200 || !Buffer.from(signedIn.json().access_token.split('.')[1], 'base64url').includes('"amr":["pop","mfa"]')) throw new Error('not signed in: ' + signedIn.body)
    if ((await post('/login/passkey', shown)).statusCode !== 401) throw new Error('twice')
    if ((await post('/login/passkey', device.get((await post('/login/options')).json(), { origin: 'https://evil.example' }))).statusCode !== 401) throw new Error('a false page')`,
  'api-keys': `
    await app.ready()
    const { access_token: token } = await app.tokens.issue({ id: 'u1', roles: ['member'] })
    const made = await app.inject({ method: 'POST', url: 'http://localhost/keys', payload: { name: 'Nightly' }, headers: { authorization: 'Bearer ' + token } })
    const { id, key } = made.json()
    if (made.statusCode !== 201 || !new RegExp('^sk_(?:live|test)_[0-9A-Za-z]{81}$').test(key)) throw new Error('no key: ' + made.body)
    const ask = async (headers, remoteAddress = '203.0.113.7') => (await app.inject({ url: 'http://localhost/reports', headers, remoteAddress })).statusCode
    const answers = [await ask({ 'x-api-key': key }), await ask({ authorization: 'Bearer ' + key }), await ask({ 'x-api-key': key + 'x' }), await ask({ 'x-api-key': key }, '198.51.100.1')]
    if (String(answers) !== '200,200,401,403') throw new Error('answers: ' + answers)
    await app.apiKeys.setActive(id, false)
    if (await ask({ 'x-api-key': key }) !== 403) throw new Error('disabled')`,
  csrf: `
    const ask = (method, headers, payload) => app.inject({ method, url: 'http://localhost/basket', payload, headers: { ...headers, cookie: ['basket=b1', headers.cookie ?? []].flat().join('; ') } })
    const page = await ask('GET', {})
    const cookie = String(page.headers['set-cookie']).split(';')[0]
    const { token } = page.json()
    const statuses = []
    for (const headers of [{}, { cookie, 'x-csrf-token': token }, { cookie, 'x-csrf-token': token, 'sec-fetch-site': 'cross-site' }]) statuses.push((await ask('POST', headers, { item: 'x' })).statusCode)
    statuses.push((await ask('POST', { cookie }, { item: 'x', _csrf: token })).statusCode)
    if (String(statuses) !== '403,200,403,200') throw new Error('statuses: ' + statuses)`,
  pages: `
    await app.ready()
    const https = { 'x-forwarded-proto': 'https' }
    const page = await app.inject({ url: 'http://localhost/', headers: https })
    const [, nonce] = /nonce="([^"]+)"/.exec(page.body)
    if (!page.headers['content-security-policy'].includes("'nonce-" + nonce + "' 'strict-dynamic'") || !page.headers['content-security-policy'].endsWith(';report-uri /reports/csp;report-to csp')) throw new Error('policy')
    if (!page.headers['content-security-policy-report-only'].startsWith("default-src 'none';script-src 'nonce-" + nonce) || page.headers['reporting-endpoints'] !== 'csp="/reports/csp"') throw new Error('tried')
    const heard = []
    app.events.listen(({ type, details }) => { if (type === 'violation_reported') heard.push(details) })
    const report = { 'csp-report': { 'document-uri': 'https://app.example.com/?token=secret', 'violated-directive': 'script-src-elem', 'blocked-uri': 'inline', disposition: 'enforce', 'script-sample': 'secret' } }
    for (let i = 0; i < 3; i++) if ((await app.inject({ method: 'POST', url: 'http://localhost/reports/csp', payload: JSON.stringify(report), headers: { 'content-type': 'application/csp-report' } })).statusCode !== 204) throw new Error('not taken')
    if (JSON.stringify(heard) !== '[{"document":"/","directive":"script-src-elem","blocked":"inline","disposition":"enforce","times":1}]') throw new Error('heard: ' + JSON.stringify(heard))
    const forgets = async headers => (await app.inject({ method: 'POST', url: 'http://localhost/logout', headers })).headers['clear-site-data']
    if (await forgets(https) !== '"cookies", "storage"' || await forgets({}) !== undefined) throw new Error('forgets')`,
  sessions: `
    const jar = new Map()
    const ask = async (method, url, payload, headers = {}) => {
      const answer = await app.inject({ method, url: 'http://localhost' + url, payload, headers: { cookie: [...jar].map(pair => pair.join('=')).join('; '), ...headers } })
      for (const line of [answer.headers['set-cookie'] ?? []].flat()) jar.set(...line.split(';')[0].split('='))
      return answer
    }
    if ((await ask('GET', '/me')).statusCode !== 401) throw new Error('anonymous')
    const crossSite = await ask('POST', '/login', { username: 'ada', password: 'right password' }, { 'sec-fetch-site': 'cross-site' })
    if (crossSite.statusCode !== 403) throw new Error('another site: ' + crossSite.body)
    const { csrfToken } = (await ask('POST', '/login', { username: 'ada', password: 'right password' })).json()
    const kept = jar.get('__Host-session')
    if ((await ask('GET', '/me')).json().id !== 'u1') throw new Error('me')
    if ((await ask('POST', '/logout')).statusCode !== 403) throw new Error('no token')
    if ((await ask('POST', '/logout', undefined, { 'x-csrf-token': csrfToken })).statusCode !== 204) throw new Error('logout')
    jar.set('__Host-session', kept)
    if ((await ask('GET', '/me')).statusCode !== 401) throw new Error('the cookie outlived the logout')`,
  dpop: `
    const { generateKeyPair, exportJWK, SignJWT } = await import('jose')
    const { createHash, randomUUID } = await import('node:crypto')
    const client = await generateKeyPair('ES256')
    const jwk = await exportJWK(client.publicKey)
    const prove = (htm, path, token) => new SignJWT({ jti: randomUUID(), htm, htu: 'http://api.example.com' + path, ...token && { ath: createHash('sha256').update(token).digest('base64url') } })
      .setProtectedHeader({ typ: 'dpop+jwt', alg: 'ES256', jwk }).setIssuedAt().sign(client.privateKey)
    const login = headers => app.inject({ method: 'POST', url: 'http://api.example.com/login', payload: { username: 'ada', password: 'right password' }, headers })
    const pay = async headers => (await app.inject({ url: 'http://api.example.com/payments', headers })).statusCode
    const { access_token: bound, token_type: type } = (await login({ dpop: await prove('POST', '/login') })).json()
    const { access_token: bearer } = (await login({})).json()
    const headers = { authorization: 'DPoP ' + bound, dpop: await prove('GET', '/payments', bound) }
    const answers = [await pay(headers), await pay(headers), await pay({ authorization: 'Bearer ' + bound }), await pay({ authorization: 'Bearer ' + bearer })]
    if (type !== 'DPoP' || String(answers) !== '200,401,401,401') throw new Error(type + ': ' + answers)`,
  keys: `
    await app.ready()
    const issue = async () => (await app.tokens.issue({ id: 'u1', roles: ['member'] })).access_token
    const ask = async (url, token) => (await app.inject({ url: 'http://localhost' + url, headers: token === undefined ? {} : { authorization: 'Bearer ' + token } }))
    const kids = async () => (await ask('/.well-known/jwks.json')).json().keys.map(({ kid }) => kid)
    const before = await issue()
    const [old] = await kids()
    process.kill(process.pid, 'SIGHUP')
    while ((await kids()).length !== 2) await new Promise(resolve => { setTimeout(resolve, 10) })
    if ((await kids())[1] !== old) throw new Error('rotated: ' + await kids())
    for (const token of [before, await issue()]) if ((await ask('/me', token)).body !== '{"id":"u1"}') throw new Error('refused')
    if ((await ask('/.well-known/jwks.json')).headers['cache-control'] !== 'public, max-age=300') throw new Error('not to be cached')`,
  input: `
    const post = (change = {}) => app.inject({ method: 'POST', url: 'http://localhost/events', payload: { title: ' Open day ', description: '<p onclick="x()">Come and <script>alert(1)</script>see</p>', contact: 'ada@example.com', tags: ['a', 'a'], from: '2026-05-01', to: '2026-05-02', ...change } })
    const { title, description, tags } = (await post()).json()
    if (title !== 'Open day' || description !== '<p>Come and see</p>' || String(tags) !== 'a') throw new Error('kept: ' + description)
    if ((await post({ to: '2026-04-30' })).json().errors[0].path !== '/to') throw new Error('rule')
    if (String([...new Set((await post({ contact: 'no', title: '' })).json().errors.map(({ path }) => path))].sort()) !== '/contact,/title') throw new Error('all faults')
    for (const change of [{ isAdmin: true }, { note: '4111 1111 1111 1111' }, { title: 7 }]) if ((await post(change)).statusCode !== 400) throw new Error(JSON.stringify(change))`,
  files: `
    await app.ready()
    const { default: sharp } = await import('sharp')
    const bytes = await sharp({ create: { width: 8, height: 8, channels: 3, background: 'red' } }).png().toBuffer()
    const headers = async id => ({ authorization: 'Bearer ' + (await app.tokens.issue({ id, roles: [] })).access_token })
    const send = async (bytes, type) => {
      const form = new FormData()
      form.append('file', new Blob([bytes], { type }), 'red.png')
      const request = new Response(form)
      return app.inject({ method: 'POST', url: 'http://localhost/pictures', payload: Buffer.from(await request.arrayBuffer()), headers: { 'content-type': request.headers.get('content-type'), ...await headers('u1') } })
    }
    const stored = await send(bytes, 'image/png')
    if (stored.statusCode !== 201) throw new Error('stored: ' + stored.body)
    if ((await send(Buffer.from('<svg/>'), 'image/png')).statusCode !== 415) throw new Error('no picture')
    const get = async id => app.inject({ url: 'http://localhost/pictures/' + stored.json().name, headers: await headers(id) })
    const own = await get('u1')
    if (own.statusCode !== 200 || own.headers['content-disposition'] !== 'attachment; filename="red.png"') throw new Error('own: ' + own.body)
    if ((await get('u2')).statusCode !== 404) throw new Error('foreign')`,
  alerts: `
    const { received, paged } = await import('./store.js')
    const login = password => app.inject({ method: 'POST', url: 'http://localhost/login', payload: { username: 'ada', password } })
    for (let i = 0; i < 12; i++) await login('guess ' + i)
    await app.alerts.settled()
    if (String(paged) !== 'brute_force_account') throw new Error('paged: ' + paged)
    while (received.length < 1) await new Promise(resolve => { setTimeout(resolve, 10) })
    const { createHmac } = await import('node:crypto')
    const { headers, body } = received[0]
    const key = deriveKey(master, 'alert webhook')
    const mac = createHmac('sha256', key).update(headers['webhook-id'] + '.' + headers['webhook-timestamp'] + '.' + body).digest('base64')
    if (headers['webhook-signature'] !== 'v1,' + mac || JSON.parse(body).data.rule !== 'brute_force_account') throw new Error('webhook: ' + body)
    if ((await app.inject('http://localhost/metrics')).statusCode !== 401) throw new Error('open')
    const text = await app.metrics.text()
    if (!text.includes('bastion_decisions_total{concern="sign-in",outcome="refused",code="FST_BASTION_SIGN_IN_REFUSED"} 5')) throw new Error(text)
    const { receiving } = await import('./store.js')
    receiving.close()`,
  outbound: `
    for (const url of ['https://127.0.0.1/', 'https://169.254.169.254/latest/meta-data', 'https://localhost/', 'https://user@example.com/', 'http://example.com/']) {
      const { statusCode } = await app.inject({ method: 'POST', url: 'http://localhost/previews', payload: { url }, remoteAddress: '203.0.113.' + url.length })
      if (statusCode !== 400) throw new Error(url + ': ' + statusCode)
    }`,
  encryption: `
    await sql.script("create table patients (id text primary key, ssn text not null check (ssn like 'b1.%'), ssn_index text not null)")
    await app.ready()
    const { access_token: token } = await app.tokens.issue({ id: 'u1', roles: ['doctor'] })
    const post = async (url, payload) => app.inject({ method: 'POST', url: 'http://localhost' + url, payload, headers: { authorization: 'Bearer ' + token } })
    for (const [id, ssn] of [['p1', '123-45-6789'], ['p2', '234-56-7891']]) if ((await post('/patients', { id, ssn })).statusCode !== 201) throw new Error('not stored')
    const found = await post('/patients/search', { ssn: '123456789' })
    if (found.body !== '[{"id":"p1","ssn":"123-45-6789"}]') throw new Error('found: ' + found.body)
    const { encryptedColumns, reencrypt } = await import('../plugins/cipher/index.js')
    await app.cipher.rotate(['v2', 'v1'].map(id => ({ id, key: deriveKey(master, 'encryption ' + id) })), ['v2', 'v1'].map(id => ({ id, key: deriveKey(master, 'indexes ' + id) })))
    const { written, left } = await reencrypt(sql, app.cipher, { table: 'patients', key: 'id', columns: encryptedColumns(Patient) })
    if (written !== 2 || left !== 0 || (await post('/patients/search', { ssn: '123-45-6789' })).body !== found.body) throw new Error('rotated: ' + written)
    await sql.query("update patients set ssn = (select ssn from patients where id = 'p2') where id = 'p1'")
    if ((await post('/patients/search', { ssn: '123-45-6789' })).statusCode !== 500) throw new Error('moved')`,
  privacy: `
    await sql.script('create table letters (id integer generated always as identity primary key, author text not null, text text not null, written timestamptz not null default now())')
    await sql.query("insert into letters (author, text) values ('u1', 'mine'), ('u2', 'not mine')")
    await app.ready()
    const { access_token: token } = await app.tokens.issue({ id: 'u1', roles: ['member'] })
    const ask = (method, url) => app.inject({ method, url: 'http://localhost' + url, headers: { authorization: 'Bearer ' + token } })
    await app.privacy.consents.give('u1', 'newsletter', { version: '2' })
    const exported = (await ask('GET', '/me/export')).json()
    if (String(exported.letters.map(({ text }) => text)) !== 'mine' || exported.consents.length !== 1) throw new Error('exported: ' + JSON.stringify(exported))
    if ((await ask('DELETE', '/me')).statusCode !== 204 || (await ask('GET', '/me/export')).statusCode !== 401) throw new Error('erased')
    const [receipt] = await app.privacy.receipts('u1')
    const outcomes = receipt.sources.map(({ source, outcome, count }) => [source, outcome, count].join())
    if (!receipt.isComplete || outcomes.join(' ') !== 'consents,deleted,1 letters,deleted,1 invoices,kept,1 portraits,deleted,1') throw new Error('receipt: ' + outcomes.join(' '))
    if (portraits.held.size !== 0 || (await sql.query('select * from letters')).length !== 1) throw new Error('something is left')`,
  audit: `
    await app.ready()
    const ask = async (url, role) => app.inject({ url: 'http://localhost' + url, headers: { authorization: 'Bearer ' + (await app.tokens.issue({ id: role, roles: [role] })).access_token } })
    if ((await ask('/records/r1', 'member')).statusCode !== 200 || (await ask('/audit', 'member')).statusCode !== 403) throw new Error('asked')
    const kept = (await ask('/audit?userId=member', 'auditor')).json().map(({ type, vocabulary }) => type + ' ' + vocabulary)
    if (String(kept) !== 'access_denied authz_fail,data_access sensitive_read,data_modification sensitive_update') throw new Error('kept: ' + kept)
    if (!(await app.audit.verify()).whole) throw new Error('broken')
    await sql.query("update audit_events set content = replace(content, 'success', 'failure') where seq = 2")
    const { break: found } = await app.audit.verify()
    if (found.seq !== 2 || found.kind !== 'changed') throw new Error('not told: ' + JSON.stringify(found))`,
  transport: `
    if (database.options.ssl.rejectUnauthorized !== true || database.peer.tls !== 'verified') throw new Error('not verified')
    const ask = (headers, method = 'GET', remoteAddress = '127.0.0.1') => app.inject({ method, url: '/docs?x=1', headers: { host: 'api.example.com', ...headers }, remoteAddress })
    const moved = await ask({})
    if (moved.statusCode !== 308 || moved.headers.location !== 'https://api.example.com/docs?x=1') throw new Error('redirect: ' + moved.statusCode)
    const statuses = []
    for (const [headers, ...more] of [[{}, 'POST'], [{ authorization: 'Bearer x' }], [{ host: 'evil.example' }], [{ 'x-forwarded-proto': 'https' }], [{ 'x-forwarded-proto': 'https' }, 'POST', '198.51.100.7'], [{ 'x-forwarded-proto': 'x' }]]) statuses.push((await ask(headers, ...more)).statusCode)
    if (String(statuses) !== '403,403,421,404,403,400') throw new Error('statuses: ' + statuses)`,
  tls: `
    const { request } = await import('node:https')
    const { connect } = await import('node:tls')
    const { client } = await import('./store.js')
    const ca = (await import('node:fs')).readFileSync(development.cert)
    await app.listen({ host: '127.0.0.1', port: 0 })
    const { port } = app.server.address()
    const ask = identity => new Promise((resolve, reject) => {
      request({ host: '127.0.0.1', port, servername: 'localhost', ca, agent: false, path: '/invoices', headers: { host: 'localhost' }, ...identity }, async response => {
        let body = ''
        for await (const chunk of response) body += chunk
        resolve(response.statusCode + ' ' + (response.statusCode === 200 ? body : JSON.parse(body).code))
      }).on('error', reject).end()
    })
    const answers = [await ask({}), await ask({ cert: client.cert, key: client.key })]
    if (String(answers) !== '401 FST_BASTION_ACCESS_UNAUTHENTICATED,200 {"client":"billing"}') throw new Error('answers: ' + answers)
    const protocol = await new Promise(resolve => { const socket = connect({ host: '127.0.0.1', port, servername: 'localhost', ca, ALPNProtocols: ['h2'] }, () => { resolve(socket.alpnProtocol); socket.destroy() }) })
    if (protocol !== 'h2') throw new Error('protocol: ' + protocol)`,
  versions: `
    const { Validator } = await import('@seriousme/openapi-schema-validator')
    await app.ready()
    const gone = await app.inject('http://localhost/v1/people')
    if (gone.statusCode !== 410 || gone.headers.link !== '</v2/people>; rel="successor-version"' || gone.headers.deprecation !== '@1735689600') throw new Error('not gone: ' + gone.body)
    if ((await app.inject('http://localhost/v2/people')).statusCode !== 401 || (await app.inject('http://localhost/openapi.json')).statusCode !== 401) throw new Error('open')
    if (app.versions.uses()[0].route !== '/v1/people') throw new Error('not counted')
    const document = JSON.parse(JSON.stringify(app.openapi()))
    if (!(await new Validator().validate(structuredClone(document))).valid || document.paths['/v1/people'].get.deprecated !== true || document.paths['/openapi.json'] !== undefined) throw new Error('document')`,
  settings: `
    await app.ready()
    const { keepKeys, signingKeys } = await import('./store.js')
    const kids = () => app.tokens.jwks().keys.map(({ kid }) => kid)
    const [old] = kids()
    keepKeys(signingKeys())
    if (String(await loaded.refresh()) !== 'SIGNING_KEYS' || kids().length !== 2 || kids()[1] !== old) throw new Error('not rotated: ' + kids())
    keepKeys({ keys: [] })
    await loaded.refresh()
    if (kids().length !== 2 || JSON.stringify([loaded.values, loaded.status()]).includes('"d"')) throw new Error('changed: ' + kids())`,
  testing: `
    if (report.routes.length < 3 || report.checks.find(({ id }) => id === 'authorization.object').state !== 'held') throw new Error(asText(report))
    const { asSarif } = await import('../plugins/testing/index.js')
    if (JSON.parse(asSarif(report)).version !== '2.1.0') throw new Error('sarif')`,
  shared: `
    if (app.state.kind !== 'redis' || !await app.state.answers()) throw new Error('not shared')
    await app.ready()
    if ((await app.inject('http://localhost/')).headers['x-ratelimit-remaining'] !== '299') throw new Error('not counted')`,
})) {
  t.test(`the sample "${name}" runs and does what is said of it`, async t => {
    const source = new RegExp(`<!-- sample: ${name} -->\\n\`\`\`ts\\n([\\s\\S]*?)\`\`\``).exec(await readFile(README, 'utf8'))?.[1]
    t.ok(source, 'the sample is in README')
    const folder = await mkdtemp(join(ROOT, '.tap-sample-'))
    t.teardown(() => rm(folder, { recursive: true, force: true }))
    const sample = source!.replaceAll(/'fastify-bastion(?:\/([a-z-]+))?'/g, (_all, concern?: string) => `'${relative(folder, moduleOf(concern))}'`).replace('server()', 'server({ logger: false })')
    await writeFile(join(folder, 'store.ts'), storeOf(folder, sample))
    await writeFile(join(folder, 'sample.ts'), `${sample}\n${check}\nawait app.close()\nexport const holds = true\n`)
    if (name === 'shared') {
      const shared = await redis(t)
      if (shared === null) return
      process.env.REDIS_URL = shared.url
      t.teardown(() => { delete process.env.REDIS_URL })
    }
    t.ok((await import(pathToFileURL(join(folder, 'sample.ts')).href)).holds)
    await (await import(pathToFileURL(join(folder, 'store.ts')).href)).sql?.close()
  })
}

/** The module that the package gives under this name. */
function moduleOf (concern?: string): string {
  if (concern === undefined) return join(ROOT, 'plugins/index.js')
  if (concern === 'schemas') return join(ROOT, 'schemas/index.js')
  return join(ROOT, existsSync(join(ROOT, 'plugins', concern)) ? `plugins/${concern}/index.js` : `plugins/${concern}.js`)
}

/** What the samples call `./store.js`: a small service's own. A database is made where one is asked for. */
function storeOf (folder: string, sample: string): string {
  const table = (concern: string) => relative(folder, moduleOf(concern))
  return `
    import argon2 from 'argon2'
    import { generateKeyPairSync, randomBytes } from 'node:crypto'
    export const master = randomBytes(48)
    const ada = { id: 'u1', passwordHash: await argon2.hash('right password'), roles: ['member'], isActive: true }
    export const accounts = { findByLogin: async name => name === 'ada' ? ada : null, findById: async () => ada, savePassword: async () => {} }
    export const orders = { find: id => ({ own: { id, userId: 'u1', total: 12 }, foreign: { id, userId: 'u2', total: 99 } })[id] }
    const keys = []
    export const signingKeys = () => {
      keys.unshift(generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ format: 'jwk' }))
      return { keys: [...keys] }
    }
    export const portraits = { held: new Set(['u1']), remove: async userId => Number(portraits.held.delete(userId)) }
    export const folder = ${JSON.stringify(join(folder, 'uploads'))}
    ${/\bsql\b.* from '\.\/store\.js'/.test(sample)
? `
    import { mkdirSync } from 'node:fs'
    import { API_KEYS_TABLE } from '${table('api-keys')}'
    import { AUDIT_TABLES } from '${table('audit')}'
    import { MFA_TABLES } from '${table('mfa')}'
    import { PASSKEYS_TABLE } from '${table('passkeys')}'
    import { PRIVACY_TABLES } from '${table('privacy')}'
    import { embedded } from '${relative(folder, join(ROOT, 'test/fixtures/embedded.js'))}'
    import { UPLOADS_TABLE } from '${table('uploads')}'
    mkdirSync(folder)
    export const sql = await embedded()
    await sql.script(AUDIT_TABLES + MFA_TABLES + API_KEYS_TABLE + PASSKEYS_TABLE + PRIVACY_TABLES + UPLOADS_TABLE)
`
: ''}
    ${/\{ app \} from '\.\/store\.js'/.test(sample)
? `
    import Fastify from 'fastify'
    import { Type } from '@sinclair/typebox'
    import bastion, { deriveKey, principalOf, resourceOf, server } from '${relative(folder, moduleOf())}'
    export const app = Fastify(server({ logger: false }))
    await app.register(bastion, {
      transport: { hosts: ['localhost'] },
      tokens: { issuer: 'https://api.example.com', audience: 'https://api.example.com', keys: { access: deriveKey(master, 'access tokens'), refresh: deriveKey(master, 'refresh tokens') } },
      access: { roles: { member: {} }, resources: { order: { load: request => orders.find(request.params.orderId), owner: order => order.userId } } },
    })
    const answer = properties => ({ 200: Type.Object(properties, { additionalProperties: false }) })
    app.get('/orders/:orderId', { schema: { response: answer({ id: Type.String(), total: Type.Integer() }) }, config: { access: { resource: 'order' } } }, async request => resourceOf(request, 'order'))
    app.get('/me', { schema: { response: answer({ id: Type.String() }) }, config: { access: 'user' } }, async request => ({ id: principalOf(request).userId }))
    app.get('/search', { schema: { response: { 200: Type.Array(Type.String()) } }, config: { access: 'public', limits: ['20/minute'] } }, async () => [])
`
: ''}
    ${sample.includes('vaultAddress')
? `
    import { vaultServer } from '${relative(folder, join(ROOT, 'test/fixtures/vault.js'))}'
    const ends = []
    const server = await vaultServer({ teardown: end => { ends.push(end) } })
    export const [roleId, secretId, vaultAddress] = ['portal', 'a-secret-id', server.url]
    server.approles.set(roleId, secretId)
    export const keepKeys = keys => { server.write('secret/portal', { APP_SECRET: master.toString('base64url'), SIGNING_KEYS: keys }) }
    keepKeys(signingKeys())
    export const sql = { close: async () => { for (const end of ends) end() } }
`
: ''}
    ${sample.includes('clientCa')
? `
    import { writeFileSync } from 'node:fs'
    import { authority, issue } from '${relative(folder, join(ROOT, 'test/fixtures/authority.js'))}'
    const ca = await authority()
    export const clientCa = ${JSON.stringify(join(folder, 'clients.pem'))}
    writeFileSync(clientCa, ca.cert)
    export const client = await issue(ca, { name: 'billing', usage: 'client' })
`
: ''}
    ${sample.includes('webhookUrl')
? `
    import { createServer } from 'node:http'
    export const received = []
    export const receiving = createServer(async (request, response) => {
      let body = ''
      for await (const chunk of request) body += chunk
      received.push({ headers: request.headers, body })
      response.writeHead(204, { connection: 'close' }).end()
    })
    await new Promise(resolve => { receiving.listen(0, '127.0.0.1', resolve) })
    export const webhookUrl = 'http://127.0.0.1:' + receiving.address().port + '/'
    export const paged = []
    export const pager = { page: rule => { paged.push(rule) } }
`
: ''}
  `
}

function errorOf (value: unknown): { code: string, statusCode: number, message: string } | null {
  if (typeof value !== 'function' || !(value.prototype instanceof Error)) return null
  const error = new (value as new (...parts: string[]) => Error & { code?: string, statusCode?: number })('…')
  return typeof error.code === 'string' && error.code.startsWith('FST_BASTION') ? error as never : null
}

/** The block after `<!-- name -->` is `expected`; in an update it becomes so. */
async function holds (t: Test, name: string, expected: string): Promise<void> {
  const readme = await readFile(README, 'utf8')
  const block = new RegExp(`(<!-- ${name} -->\\n)[\\s\\S]*?(?=\\n## )`)
  if (isUpdate) await writeFile(README, readme.replace(block, (_all, marker: string) => `${marker}\n${expected}\n`))
  t.equal(block.exec(isUpdate ? await readFile(README, 'utf8') : readme)?.[0]?.replace(`<!-- ${name} -->`, '').trim(), expected, `README_UPDATE=1 npx tap test/readme.test.ts writes the table of ${name}`)
}
