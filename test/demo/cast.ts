/** People and things that generated requests can name: `@alice@` in a request stands for her id, `@alice:token@` for her access token, and so on. */
import { randomBytes } from 'node:crypto'
import { Secret, TOTP } from 'otpauth'
import type { PortalUnderTest } from './portal.js'
import { formOf, picture } from '../uploads/forms.js'

export const CAST_PASSWORD = 'Generated-pass-1'
const PEOPLE = { alice: 'user', bob: 'user', gina: 'guest', mona: 'moderator', dora: 'doctor', adam: 'admin', meg: 'user', sam: 'user' } as const
/** No two casts have an id or a name in common. */
let seasons = 0
const PLACEHOLDER = /@([a-z:]+)@/g

export interface Cast {
  /** Everybody and everything anew, whatever became of them. */
  renew: () => Promise<void>
  /** Signs somebody in anew who was signed out, switched off or locked, and brings back who was deleted. */
  revive: (caller: string) => Promise<void>
  /** The text with what its placeholders stand for. */
  fill: (text: string) => string
}

/** What placeholders there are, by what the fields and parameters of requests are called. */
export const NAMED: Readonly<Record<string, readonly string[]>> = {
  userId: ['@alice@', '@bob@', '@adam@'],
  postId: ['@post@'],
  documentId: ['@document@'],
  orderId: ['@order@'],
  keyId: ['@key@'],
  sessionId: ['@session@'],
  name: ['@file@'],
  '*': ['@file@'],
  username: ['@alice:name@', '@bob:name@', '@fresh@'],
  password: [CAST_PASSWORD],
  currentPassword: [CAST_PASSWORD],
  newPassword: ['Another-pass-1-Qcanary7'],
  refresh_token: ['@alice:refresh@', '@bob:refresh@'],
  token: ['@alice:token@', '@bob:refresh@', '@reset@', '@confirm@'],
  grant_type: ['password', 'refresh_token'],
  mfaToken: ['@pending@'],
  code: ['@recovery@'],
  scope: ['posts:read', 'posts:write data:read'],
  scopes: ['posts:write', 'data:read'],
  currency: ['EUR'],
  paymentToken: ['tok_visa_Qcanary7'],
  email: ['@fresh@@people.example', '@alice:name@@people.example'],
  cursor: ['@post@', '@comment@'],
}
export const ORDER_TOTAL = 4900

/** Whose requests these are: headers with placeholders. */
export const CALLERS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  nobody: {},
  ...Object.fromEntries(Object.keys(PEOPLE).map(name => [name, { authorization: `Bearer @${name}:token@` }])),
  browser: { cookie: '@cookie@', 'x-csrf-token': '@csrf@', 'sec-fetch-site': 'same-origin', origin: 'http://localhost:3000' },
  program: { 'x-api-key': '@adam:key@' },
  spender: { authorization: 'Bearer @alice:refresh@' },
}

export async function castOf (portal: PortalUnderTest): Promise<Cast> {
  const { app, sql, call, now } = portal
  const hash = await app.passwords.hash(CAST_PASSWORD)
  const form = formOf([{ filename: 'a.png', type: 'image/png', content: await picture('png', 4, 4) }])
  const known = new Map<string, string>()
  let season = 0
  let fresh = 0

  async function renew (): Promise<void> {
    season = ++seasons
    known.clear()
    await sql.query("delete from users where id like 'cast-%' or username like 'fresh\\_%'")
    for (const [name, role] of Object.entries(PEOPLE)) await enter(name, role)
    const alice = known.get('alice')!
    for (const [thing, table, columns, values] of [
      ['post', 'posts', 'author_id, title, content', [alice, 'A title', '<p>Long enough content</p>']],
      ['comment', 'comments', 'post_id, author_id, content', ['@post@', alice, 'A comment']],
      ['document', 'documents', 'owner_id, title, content', [alice, 'A document', 'content']],
      ['order', 'orders', 'user_id, item, currency, total', [alice, 'Desk lamp', 'EUR', ORDER_TOTAL]],
    ] as const) {
      const id = `cast-${season}-${thing}`
      known.set(thing, id)
      const all = [id, ...values.map(value => typeof value === 'string' ? fill(value) : value)]
      await sql.query(`insert into ${table} (id, ${columns}) values (${all.map((_value, i) => `$${i + 1}`).join(', ')})`, all)
    }
    await sql.query("insert into document_shares (document_id, user_id, actions) values ($1, $2, '{read,write}')", [known.get('document'), known.get('bob')])

    const { id: key, text } = await app.apiKeys.create(principal('adam', 'admin'), { name: 'a key', scopes: ['data:read', 'tokens:introspect'] })
    const { id: own } = await app.apiKeys.create(principal('alice', 'user'), { name: 'a key', scopes: ['data:read'] })
    known.set('adam:key', text).set('key', own).set('adam:keyid', key)
    const stored = await call('POST', '/upload/image', { token: known.get('alice:token')!, raw: form.body, type: form.type })
    known.set('file', stored.body.name)
    known.set('reset', app.tokens.links.issue({ purpose: 'reset', subject: known.get('bob')!, lifetime: 1800, bound: `${known.get('bob:name')}@people.example ${hash}` }))
    known.set('confirm', app.tokens.links.issue({ purpose: 'confirm', subject: known.get('bob')!, lifetime: 1800, bound: `${known.get('bob:name')}@people.example` }))
    await signInByCookie()
    await enrol()
  }

  async function enter (name: string, role: string): Promise<void> {
    const id = `cast-${season}-${name}`
    const username = `cast_${season}_${name}`
    await sql.query('insert into users (id, username, email, email_confirmed_at, password_hash, role, plan) values ($1, $2, $3, now(), $4, $5, $6)', [id, username, `${username}@people.example`, hash, role, 'pro'])
    known.set(name, id).set(`${name}:name`, username)
    await signIn(name)
  }

  async function revive (caller: string): Promise<void> {
    const name = caller === 'browser' ? 'sam' : caller
    const role = PEOPLE[name as keyof typeof PEOPLE]
    if (role === undefined) return
    const id = known.get(name)!
    // Whoever changes his name leaves one that somebody else may have taken.
    await sql.query('delete from users where lower(username) = lower($1) and id <> $2', [known.get(`${name}:name`), id])
    const [user] = await sql.query('update users set is_active = true, role = $2, username = $3, password_hash = $4 where id = $1 returning id', [id, role, known.get(`${name}:name`), hash])
    if (user === undefined) return renew()
    await app.signIn.unlock(known.get(`${name}:name`)!)
    if (caller === 'browser') return signInByCookie()
    await signIn(name)
  }

  async function signIn (name: string): Promise<void> {
    const { access_token: token, refresh_token: refresh } = await app.tokens.issue({ id: known.get(name)!, roles: [PEOPLE[name as keyof typeof PEOPLE]], plan: 'pro' })
    known.set(`${name}:token`, token).set(`${name}:refresh`, refresh)
  }

  async function signInByCookie (): Promise<void> {
    const { headers, body } = await call('POST', '/session/login', { body: { username: known.get('sam:name'), password: CAST_PASSWORD }, headers: { 'sec-fetch-site': 'same-origin' } })
    const cookies = ([headers['set-cookie']].flat() as string[]).map(line => line.split(';')[0])
    known.set('cookie', cookies.join('; ')).set('csrf', body.csrfToken)
    const { body: devices } = await call('GET', '/sessions', { headers: { cookie: known.get('cookie')!, 'sec-fetch-site': 'same-origin' } })
    known.set('session', devices.items[0].id)
  }

  async function enrol (): Promise<void> {
    const { secret } = await app.mfa.enroll({ id: known.get('meg')!, name: known.get('meg:name')! })
    const [recovery] = await app.mfa.confirm(known.get('meg')!, new TOTP({ secret: Secret.fromBase32(secret) }).generate({ timestamp: now() }))
    const { body } = await call('POST', '/auth/login', { body: { username: known.get('meg:name'), password: CAST_PASSWORD } })
    known.set('recovery', recovery!).set('pending', body.mfaToken)
  }

  const principal = (name: string, role: string) => ({ kind: 'user', id: known.get(name)!, userId: known.get(name)!, roles: [role], via: 'bearer', authTime: Math.floor(now() / 1000), credentialId: randomBytes(6).toString('hex') }) as const

  function fill (text: string): string {
    return text.replace(PLACEHOLDER, (whole, name: string) => name === 'fresh' ? `fresh_${++fresh}` : known.get(name) ?? whole)
  }

  return { renew, revive, fill }
}
