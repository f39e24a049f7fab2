/** What the attack kit is told of the member portal: who calls, whose objects there are, and what a valid request needs beyond its schemas. */
import { createHmac, randomBytes } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Secret, TOTP } from 'otpauth'
import { makeKeys } from '../../demo/keys.js'
import type { Sql } from '../../plugins/sql.js'
import type { AttackOptions } from '../../plugins/testing/index.js'
import { APP_SECRET, PASSWORD, type PortalUnderTest } from './portal.js'
import { tabAt } from './tab.js'
import { authenticator } from '../passkeys/authenticator.js'
import { formOf, picture } from '../uploads/forms.js'

const OWN_PASSWORD = 'Attacked-pass-1'
/** Seconds that links are good for. */
const LINK_LIFETIME = 600
/** Of one user, who may have a few more. */
const MOST_KEYS = 40
const NOBODY_LISTENS = 'http://127.0.0.1:9/'

export async function attackedPortal (portal: PortalUnderTest): Promise<AttackOptions & Required<Pick<AttackOptions, 'routes'>>> {
  const { app, sql, idOf } = portal
  const hash = await app.passwords.hash(OWN_PASSWORD)
  const fresh = () => randomBytes(8).toString('hex')
  let addresses = 0
  /** None that the kit asks from, which spends what budgets they have. */
  const elsewhere = () => `192.168.${(++addresses >> 8) & 255}.${addresses & 255}`
  const ids = { alice: await idOf('alice'), bob: await idOf('bob') }
  let visitorId = ''
  let browserId = ''

  const emailOf = (id: string) => `${id}@people.example`
  async function person (): Promise<string> {
    const id = `p_${fresh()}`
    await sql.query("insert into users (id, username, email, email_confirmed_at, password_hash, role, plan) values ($1, $1, $2, now(), $3, 'user', 'basic')", [id, emailOf(id), hash])
    return id
  }
  const tokenOf = async (username: string, role: string) => {
    const id = await idOf(username)
    return async () => ({ token: (await app.tokens.issue({ id, roles: [role], plan: 'pro' })).access_token })
  }
  async function post (author: string): Promise<string> {
    const id = `a-${fresh()}`
    await sql.query("insert into posts (id, author_id, title, title_upper, content, tags) values ($1, $2, 'A title', 'A TITLE', '<p>Long enough content</p>', '{}')", [id, author])
    return id
  }
  async function document (owner: string): Promise<string> {
    const id = `d-${fresh()}`
    await sql.query("insert into documents (id, owner_id, title, content) values ($1, $2, 'A document', 'content')", [id, owner])
    return id
  }
  const reader = await person()
  async function shared (owner: string): Promise<string> {
    const id = await document(owner)
    await sql.query("insert into document_shares (document_id, user_id, actions) values ($1, $2, '{read}')", [id, reader])
    return id
  }
  async function order (owner: string): Promise<string> {
    const id = `o-${fresh()}`
    await sql.query("insert into orders (id, user_id, item, currency, total) values ($1, $2, 'Desk lamp', 'EUR', 4900)", [id, owner])
    return id
  }
  const principalOf = (id: string) => ({ kind: 'user', id, userId: id, roles: ['user'], via: 'bearer', authTime: Math.floor(portal.now() / 1000), credentialId: fresh() }) as const
  /** However many attacks have made before: the oldest go. */
  async function key (owner: string): Promise<string> {
    const kept = await app.apiKeys.list(owner, { limit: 100 })
    if (kept.length >= MOST_KEYS) for (const { id } of kept.sort((a, b) => Number(a.createdAt) - Number(b.createdAt)).slice(0, MOST_KEYS / 2)) await app.apiKeys.delete(id)
    return (await app.apiKeys.create(principalOf(owner), { name: 'a key', scopes: ['data:read'] })).id
  }
  const program = await app.apiKeys.create({ ...principalOf(await idOf('admin')), roles: ['admin'] }, { name: 'program', scopes: ['data:read', 'tokens:introspect', 'posts:write'] })
  const form = formOf([{ filename: 'a.png', type: 'image/png', content: await picture('png', 4, 4) }])
  async function file (owner: string): Promise<string> {
    const { access_token: token } = await app.tokens.issue({ id: owner, roles: ['user'] })
    return (await portal.call('POST', '/upload/image', { token, raw: form.body, type: form.type, address: elsewhere() })).body.name
  }
  const codeOf = (secret: string) => new TOTP({ secret: Secret.fromBase32(secret) }).generate({ timestamp: portal.now() })
  const recovery: { id: string, code: string }[] = []
  /** A sign-in whose password was right, and a recovery code that nobody has used. */
  async function secondFactor (): Promise<{ mfaToken: string, code: string }> {
    if (recovery.length === 0) {
      const id = await person()
      const { secret } = await app.mfa.enroll({ id, name: id })
      recovery.push(...(await app.mfa.confirm(id, codeOf(secret))).map(code => ({ id, code })))
    }
    const { id, code } = recovery.pop()!
    return { mfaToken: await app.mfa.challenge({ id, passwordHash: hash }), code }
  }
  const begun = { id: '', code: '' }
  /** The code of the authenticator that the visitor has been shown. */
  async function confirmation (): Promise<{ code: string }> {
    if (begun.id !== visitorId) Object.assign(begun, { id: visitorId, code: codeOf((await app.mfa.enroll({ id: visitorId, name: visitorId })).secret) })
    await app.mfa.unlock(visitorId)
    return { code: begun.code }
  }
  const newPasskey = async (owner: string, device = authenticator({ counts: false })) => device.create(await app.passkeys.registerOptions({ id: owner, name: owner }))
  const passkey = async (owner: string, device = authenticator({ counts: false })) => (await app.passkeys.register(owner, await newPasskey(owner, device), { name: 'Telephone' })).id
  const device = authenticator({ counts: false })
  await passkey(await person(), device)
  const shownPasskey = async () => device.get(await app.passkeys.loginOptions())
  /** What a mail would bring, to somebody who has got none yet. */
  async function link (purpose: 'reset' | 'confirm'): Promise<string> {
    const id = await person()
    return app.tokens.links.issue({ purpose, subject: id, lifetime: LINK_LIFETIME, bound: purpose === 'reset' ? `${emailOf(id)} ${hash}` : emailOf(id) })
  }
  async function session (owner: string): Promise<string> {
    await tabAt(portal).signIn(owner, OWN_PASSWORD)
    return (await app.sessions.list(owner)).at(-1)!.id
  }
  const ofBoth = (make: (owner: string) => Promise<string>) => ({ alice: () => make(ids.alice), bob: () => make(ids.bob), visitor: () => make(visitorId) })
  let mailbox: string | null = null
  /** Of somebody who has asked for nothing yet, and then the same once more: an address gets three mails an hour. */
  async function forgotten (): Promise<{ email: string }> {
    const email = mailbox ?? emailOf(await person())
    mailbox = mailbox === null ? email : null
    return { email }
  }
  const patient = (await sql.query<{ id: string }>('select id from patients limit 1'))[0]!.id
  const { access } = makeKeys(APP_SECRET, { JWT_ALGORITHM: 'HS256' } as never).tokens as { access: Buffer }

  return {
    canaries: ['$argon2id$'],
    principals: {
      // Somebody new whenever something was changed: what ends an account ends one that is not needed again.
      visitor: async () => {
        visitorId = await person()
        await sql.query('insert into webhooks (id, user_id, url) values ($1, $1, $2)', [visitorId, NOBODY_LISTENS])
        return { token: (await app.tokens.issue({ id: visitorId, roles: ['user'], plan: 'basic' })).access_token }
      },
      alice: await tokenOf('alice', 'user'),
      bob: await tokenOf('bob', 'user'),
      mona: await tokenOf('mona', 'moderator'),
      nora: await tokenOf('nora', 'nurse'),
      dora: await tokenOf('dora', 'doctor'),
      admin: await tokenOf('admin', 'admin'),
      program: { key: program.text, id: program.id, roles: ['admin'], scopes: ['data:read', 'tokens:introspect', 'posts:write'] },
      browser: async () => {
        const tab = tabAt(portal)
        browserId = await person()
        const { status } = await tab.ask('POST', '/session/login', { body: { username: browserId, password: OWN_PASSWORD }, address: elsewhere() })
        if (status !== 200) throw new Error(`${browserId} cannot sign in: ${status}`)
        return { cookie: [...tab.jar].map(pair => pair.join('=')).join('; '), csrf: tab.csrf!, id: browserId, roles: ['user'], plan: 'basic', authTime: Math.floor(portal.now() / 1000) }
      },
    },
    objects: {
      userId: { ...ids, visitor: () => visitorId, '*': person },
      purpose: { '*': 'newsletter' },
      postId: ofBoth(post),
      documentId: ofBoth(document),
      orderId: ofBoth(order),
      keyId: ofBoth(key),
      name: ofBoth(file),
      '*': ofBoth(file),
      sessionId: { browser: async () => (await app.sessions.list(browserId)).at(-1)!.id, visitor: () => session(visitorId) },
      passkeyId: { bob: () => passkey(ids.bob), visitor: () => passkey(visitorId) },
      patientId: { '*': patient },
    },
    values: {
      username: () => `n_${fresh()}`,
      email: () => `${fresh()}@people.example`,
      password: OWN_PASSWORD,
      currentPassword: OWN_PASSWORD,
      newPassword: () => `New-${fresh()}-P1`,
      scopes: ['data:read'],
      userId: () => ids.bob,
      ssn: '123-45-6789',
      host: '127.0.0.1',
      url: NOBODY_LISTENS,
    },
    sign: (claims, header) => {
      const text = [header, claims].map(part => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.')
      return `${text}.${createHmac('sha256', access).update(text).digest('base64url')}`
    },
    witnesses: {
      stored: () => stored(sql, portal.directory),
      logged: () => portal.log,
      recorded: async () => (await app.audit.read({ limit: 20 })).items,
      mailed: () => portal.mails.map(({ to, subject, text }) => `To: ${to}\nSubject: ${subject}\n\n${text}`),
    },
    routes: {
      // Public profiles; what is private in them is hidden field by field.
      'GET /users/:userId': { foreign: 'allow' },
      'POST /auth/login': { body: { username: 'alice', password: PASSWORD }, conceals: 'username' },
      'POST /session/login': { body: { username: 'alice', password: PASSWORD }, conceals: 'username' },
      'POST /token': { body: { grant_type: 'password', username: 'alice', password: PASSWORD }, conceals: 'username' },
      'POST /auth/refresh': { body: async () => ({ refresh_token: (await app.tokens.issue({ id: ids.bob, roles: ['user'] })).refresh_token }), once: true },
      'POST /auth/register': { mails: true },
      'POST /auth/forgot': { mails: true, body: forgotten, conceals: 'email' },
      'POST /auth/reset': { body: async () => ({ token: await link('reset'), newPassword: `New-${fresh()}-P1` }), once: true },
      'POST /auth/confirm': { body: async () => ({ token: await link('confirm') }), once: true },
      'POST /auth/mfa': { body: secondFactor, once: true },
      'POST /session/mfa': { body: secondFactor, once: true },
      'POST /mfa/confirm': { body: confirmation },
      'POST /passkeys/register': { body: () => newPasskey(visitorId) },
      'POST /passkeys/login': { body: shownPasskey, once: true },
      'POST /session/passkey': { body: shownPasskey, once: true },
      'DELETE /users/me': { erases: true },
      'POST /api-keys': { body: { name: 'a key', scopes: ['data:read'] } },
      'PUT /users/me/consents/:purpose': { body: { version: '1', given: true } },
      'POST /payments': { body: async () => ({ orderId: await order(visitorId), paymentToken: 'tok_visa_1234', amount: 4900, currency: 'EUR' }) },
      'POST /documents/:documentId/shares': { body: { userId: reader, actions: ['read'] } },
      'DELETE /documents/:documentId/shares/:userId': { objects: { documentId: ofBoth(shared), userId: { '*': reader } } },
      'GET /web/*': { objects: { '*': { '*': 'style.css' } } },
      // While somebody develops, webhooks may lead to this machine: what production refuses is proven where its webhooks are.
      'PUT /users/me/webhook': { skip: { outbound: 'in development webhooks may lead to this machine' } },
    },
  }
}

/** Each row of each table, and each file. */
async function * stored (sql: Sql, directory: string): AsyncGenerator<string> {
  for (const { name } of await sql.query<{ name: string }>("select table_name as name from information_schema.tables where table_schema = 'public'")) {
    for (const { text } of await sql.query<{ text: string }>(`select row_to_json(t)::text as text from "${name}" t`)) yield text
  }
  for (const file of await readdir(directory, { recursive: true, withFileTypes: true })) {
    if (file.isFile()) yield readFile(join(file.parentPath, file.name), 'latin1')
  }
}
