/** Confirmed addresses and forgotten passwords: what goes by mail, and what tells nobody anything. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { Type } from '@sinclair/typebox'
import jwt from '@fastify/jwt'
import Fastify from 'fastify'
import t from 'tap'
import { mailer } from '../../demo/mail.js'
import type { PortalSettings } from '../../demo/settings.js'
import { closed, TokenPair } from '../../schemas/index.js'
import { build, buildOn, PASSWORD } from './portal.js'

const portal = await build(t)
const { call, mails, signIn, newcomer, pass, sql, log } = portal
const NEW = 'Fresh-password-7'
const MINUTE = 60_000

/** Mails are written beside the requests: those that this request causes are there a moment later. */
async function mailsOf (ask: () => Promise<unknown>, expected = 1): Promise<typeof mails> {
  await pause(50) // those of requests before
  const before = mails.length
  await ask()
  for (let i = 0; i < 100 && mails.length < before + expected; i++) await pause(5)
  await pause(20)
  return mails.slice(before)
}
const tokenIn = (mail: { text: string } | undefined) => /\n\n([\w-]+\.[\w-]{43})/.exec(mail?.text ?? '')?.[1] ?? ''
const forgot = (email: string) => call('POST', '/auth/forgot', { body: { email } })
const reset = (token: string, newPassword = NEW) => call('POST', '/auth/reset', { body: { token, newPassword } })
const confirm = (token: string) => call('POST', '/auth/confirm', { body: { token } })
const emailOf = async (name: string) => (await sql.query<{ email: string }>('select email from users where username = $1', [name]))[0]!.email

t.test('who forgot the password gets a link, chooses a new one, and everybody who was signed in is out [ASVS 6.4.3, 7.4.3]', async t => {
  const { access_token: token, refresh_token: refresh } = await signIn('max')
  const sent = await mailsOf(async () => forgot(await emailOf('max')))
  t.equal(sent.length, 1)
  t.equal(sent[0]!.to, await emailOf('max'))
  const link = tokenIn(sent[0])
  const [notice] = await mailsOf(async () => t.equal((await reset(link)).status, 204))
  t.match(notice, { to: await emailOf('max'), subject: 'Your password was changed' })
  t.equal((await call('GET', '/users/me', { token })).status, 401)
  t.equal((await call('POST', '/auth/refresh', { body: { refresh_token: refresh } })).status, 401)
  t.equal((await call('POST', '/auth/login', { body: { username: 'max', password: PASSWORD } })).status, 401)
  await signIn('max', NEW)
  t.match(await reset(link, 'Another-password-8'), { status: 400, body: { code: 'FST_BASTION_TOKENS_LINK_INVALID' } }, 'once')

  const bare = Fastify()
  t.teardown(() => bare.close())
  await bare.register(jwt, { secret: 'a secret that is long enough to sign links' })
  let password = ''
  bare.post<{ Body: { token: string, newPassword: string } }>('/auth/reset', async ({ body }) => {
    bare.jwt.verify(body.token)
    password = body.newPassword
  })
  const signed = bare.jwt.sign({ sub: 'max' }, { expiresIn: '30m' })
  for (const newPassword of [NEW, 'Mallory-was-here-1']) await bare.inject({ method: 'POST', url: '/auth/reset', payload: { token: signed, newPassword } })
  t.equal(password, 'Mallory-was-here-1', 'negative control: a link by @fastify/jwt, as it is documented, chooses another password after it was used')
})

t.test('whether an address is known is told neither by the answer nor by a mail [ASVS 6.3.8]', async t => {
  const known = await forgot(await emailOf('mona'))
  await pause(30)
  const unknown = await mailsOf(async () => {
    const answer = await forgot('nobody@people.example')
    t.equal(answer.status, known.status)
    t.equal(answer.text, known.text)
    t.strictSame(Object.keys(answer.headers).sort(), Object.keys(known.headers).sort())
  }, 0)
  t.strictSame(unknown, [])
  const { username } = await newcomer()
  t.strictSame(await mailsOf(async () => forgot(await emailOf(username)), 0), [], 'an address that nobody confirmed belongs to nobody')
  t.strictSame(await mailsOf(async () => forgot(await emailOf('ina')), 0), [], 'an account that is switched off gets none')
})

t.test('of twenty who use one link at once, one chooses the password', async t => {
  const [mail] = await mailsOf(async () => forgot(await emailOf('gus')))
  const link = tokenIn(mail)
  const answers = await Promise.all(Array.from({ length: 20 }, () => reset(link)))
  t.equal(answers.filter(({ status }) => status === 204).length, 1)
})

t.test('a link ends with its time, with the password that it was for, and with the address', async t => {
  const email = await emailOf('nora')
  const [late] = await mailsOf(() => forgot(email))
  pass(31 * MINUTE)
  t.equal((await reset(tokenIn(late))).status, 400)
  const [first] = await mailsOf(() => forgot(email))
  const [second] = await mailsOf(() => forgot(email))
  t.equal((await reset(tokenIn(second))).status, 204)
  t.equal((await reset(tokenIn(first), 'Another-password-8')).status, 400, 'the one before it, too')
})

t.test('a password that the policy refuses does not cost the link', async t => {
  const [mail] = await mailsOf(async () => forgot(await emailOf('dora')))
  t.equal((await reset(tokenIn(mail), 'short')).status, 400)
  t.equal((await reset(tokenIn(mail), 'dora-Dora-1')).status, 400)
  t.equal((await reset(tokenIn(mail))).status, 204)
})

t.test('a link for one purpose is none for another, and no token of another kind is a link', async t => {
  const [mail] = await mailsOf(async () => forgot(await emailOf('admin')))
  const link = tokenIn(mail)
  t.equal((await confirm(link)).status, 400)
  t.equal((await call('GET', '/users/me', { token: link })).status, 401)
  t.equal((await call('POST', '/auth/refresh', { body: { refresh_token: link } })).status, 401)
  const { access_token: access, refresh_token: refresh } = await signIn('alice')
  for (const other of [access, refresh, `${link}A`, link.slice(0, -1), link.split('.')[0]!, '', `${link.split('.')[0]}.${'A'.repeat(43)}`]) {
    t.equal((await reset(other)).status, 400)
  }
  const body = JSON.parse(Buffer.from(link.split('.')[0]!, 'base64url').toString())
  body[1] = await portal.idOf('bob')
  t.equal((await reset(`${Buffer.from(JSON.stringify(body)).toString('base64url')}.${link.split('.')[1]}`)).status, 400, 'a subject of the attacker\'s choice')
  t.equal((await reset(link)).status, 204)
})

t.test('an address is confirmed by its mail', async t => {
  const [mail] = await mailsOf(() => call('POST', '/auth/register', { body: { username: 'paula', email: 'Paula@people.example', password: NEW } }))
  t.match(mail, { to: 'paula@people.example', subject: 'Confirm your address' })
  const { access_token: token } = await signIn('paula', NEW)
  t.equal((await call('GET', '/users/me', { token })).body.emailConfirmed, false)
  t.equal((await confirm(tokenIn(mail))).status, 204)
  t.equal((await call('GET', '/users/me', { token })).body.emailConfirmed, true)
  t.equal((await confirm(tokenIn(mail))).status, 400, 'once')
})

t.test('who has an address already is told that somebody wanted it, and the asker is not', async t => {
  const [first] = await mailsOf(() => call('POST', '/auth/register', { body: { username: 'owner_of_it', email: 'taken@people.example', password: NEW } }))
  await confirm(tokenIn(first))
  const sent = await mailsOf(async () => {
    const { status, body } = await call('POST', '/auth/register', { body: { username: 'wants_it_too', email: 'taken@people.example', password: NEW } })
    t.equal(status, 201)
    t.equal(body.emailConfirmed, false)
  })
  t.match(sent, [{ to: 'taken@people.example', subject: 'You have an account already' }])
  t.equal(tokenIn(sent[0]), '', 'without a link that would give the address away')
})

t.test('an address that is changed is confirmed anew, and a link to the old one confirms nothing', async t => {
  const [old] = await mailsOf(() => call('POST', '/auth/register', { body: { username: 'moves', email: 'old@people.example', password: NEW } }))
  const { access_token: token } = await signIn('moves', NEW)
  const [fresh] = await mailsOf(() => call('PATCH', '/users/me', { token, body: { email: 'new@people.example' } }))
  t.equal(fresh!.to, 'new@people.example')
  t.equal((await confirm(tokenIn(old))).status, 400)
  t.equal((await confirm(tokenIn(fresh))).status, 204)
})

t.test('no mail signs anybody in: what it brings is neither a sign-in nor a second factor [ASVS 6.3.6]', async t => {
  const person = await newcomer()
  const letters = await mailsOf(async () => {
    await sql.query('update users set email_confirmed_at = now() where id = $1', [person.id])
    await forgot(`${person.username}@people.example`)
  })
  const link = tokenIn(letters.at(-1))
  t.match(link, /./)
  const form = (fields: Record<string, string>) => ({ raw: new URLSearchParams(fields).toString(), type: 'application/x-www-form-urlencoded' })
  for (const [url, more] of [
    ['/auth/login', { body: { username: person.username, password: link } }], ['/session/login', { body: { username: person.username, password: link } }],
    ['/auth/mfa', { body: { mfaToken: link, code: link.slice(0, 64) } }], ['/session/mfa', { body: { mfaToken: link, code: '123456' } }],
    ['/auth/refresh', { body: { refresh_token: link } }], ['/auth/refresh', { token: link }],
    ['/token', form({ grant_type: 'password', username: person.username, password: link })], ['/token', form({ grant_type: 'refresh_token', refresh_token: link })],
    ['/auth/step-up', { token: person.token, body: { code: link.slice(0, 64) } }], ['/auth/step-up', { token: person.token, body: { password: link } }],
  ] as const) t.match((await call('POST', url, more)).status, /^40[01]$/, url)
  for (const [name, value] of [['authorization', `Bearer ${link}`], ['x-api-key', link], ['cookie', `session=${link}`]] as const) t.equal((await call('GET', '/users/me', { headers: { [name]: value } })).status, 401, name)

  const { body: { secret } } = await call('POST', '/mfa/enroll', { token: person.token })
  t.type(secret, 'string', 'a second factor is an authenticator')
  for (const more of [{ by: 'email' }, { email: `${person.username}@people.example` }, { factor: 'email' }]) t.equal((await call('POST', '/mfa/enroll', { token: person.token, body: more })).status, 400)

  const answer = await reset(link)
  t.match(answer, { status: 204, text: '' })
  t.notOk('set-cookie' in answer.headers)
  const address = portal.app.tokens.links.issue({ purpose: 'confirm', subject: person.id, bound: `${person.username}@people.example` })
  const confirmed = await confirm(address)
  t.match(confirmed, { status: 204, text: '' })
  t.notOk('set-cookie' in confirmed.headers)

  const magic = await buildOn(t, sql, {}, app => {
    app.post<{ Body: { token: string } }>('/magic', { schema: { body: closed({ token: Type.String({ maxLength: 1000 }) }), response: { 200: TokenPair } }, config: { access: 'public' } }, async request =>
      app.tokens.issue({ id: await app.tokens.links.redeem('magic', request.body.token), roles: ['user'] }))
  })
  const { body: { access_token: token } } = await magic.call('POST', '/magic', { body: { token: magic.app.tokens.links.issue({ purpose: 'magic', subject: person.id }) } })
  t.equal((await magic.call('GET', '/users/me', { token })).status, 200, 'negative control: where a link of a mail signs in, whoever reads the mail is in')
})

t.test('who guesses what stands in a mail is limited, and the guess is one of 2 to the power of 256 [ASVS 6.6.3]', async t => {
  const [mail] = await mailsOf(async () => forgot(await emailOf('max')))
  const link = tokenIn(mail)
  const [body, signature] = link.split('.') as [string, string]
  t.equal(Buffer.from(signature, 'base64url').length, 32)
  const address = '198.51.100.44'
  const guess = () => `${body}.${Buffer.from(Array.from({ length: 32 }, () => randomInt(256))).toString('base64url')}`
  for (const ask of [(token: string) => call('POST', '/auth/reset', { address, body: { token, newPassword: NEW } }), (token: string) => call('POST', '/auth/confirm', { address, body: { token } })]) {
    const statuses: number[] = []
    for (let i = 0; i < 13; i++) statuses.push((await ask(guess())).status)
    t.strictSame(statuses, [...Array<number>(10).fill(400), ...Array<number>(3).fill(429)])
  }
  t.equal((await call('POST', '/auth/reset', { address, body: { token: link, newPassword: NEW } })).status, 429, 'the right one too')

  const bare = Fastify()
  t.teardown(() => bare.close())
  const code = String(randomInt(1000)).padStart(3, '0')
  bare.post<{ Body: { code: string } }>('/auth/reset', async (request, reply) => reply.code(request.body.code === code ? 204 : 400).send())
  let guesses = 0
  while ((await bare.inject({ method: 'POST', url: '/auth/reset', payload: { code: String(guesses).padStart(3, '0') } })).statusCode !== 204) guesses += 1
  t.equal(guesses, Number(code), 'negative control: a short code without a limit is found by trying')
})

t.test('nobody\'s mailbox is filled: three mails an hour, and the answer stays the same', async t => {
  const email = await emailOf('bob')
  pass(3 * 60 * MINUTE)
  const sent = await mailsOf(async () => { for (let i = 0; i < 8; i++) t.equal((await forgot(email)).status, 202) }, 3)
  t.equal(sent.length, 3)
})

t.test('no link is in the log', async t => {
  for (const { text } of mails) {
    const link = tokenIn({ text })
    if (link !== '') t.notOk(log.some(line => line.includes(link.split('.')[1]!)))
  }
})

t.test('in development mails are files of the owner\'s alone, in production they go by SMTP or not at all', async t => {
  const directory = mkdtempSync(join(tmpdir(), 'bastion-mail-'))
  t.teardown(() => rmSync(directory, { recursive: true }))
  const settings = { DATA_DIR: directory, MAIL_FROM: 'portal@localhost', NODE_ENV: 'development' } as PortalSettings
  await mailer(settings)!({ to: 'a@b.example', subject: 'Hello', text: 'Text' })
  const [file] = readdirSync(join(directory, 'mail'))
  t.equal(statSync(join(directory, 'mail')).mode & 0o777, 0o700)
  t.equal(statSync(join(directory, 'mail', file!)).mode & 0o777, 0o600)
  t.equal(readFileSync(join(directory, 'mail', file!), 'utf8'), 'From: portal@localhost\nTo: a@b.example\nSubject: Hello\n\nText\n')
  t.equal(mailer({ ...settings, NODE_ENV: 'production' }), null)

  const received: string[] = []
  const smtp = createServer(socket => {
    let isData = false
    socket.write('220 here\r\n')
    socket.setEncoding('utf8').on('data', (chunk: string) => {
      for (const line of chunk.split('\r\n').slice(0, -1)) {
        received.push(line)
        if (isData && line !== '.') continue
        isData = line === 'DATA'
        socket.write(line === 'DATA' ? '354 go on\r\n' : line === 'QUIT' ? '221 bye\r\n' : '250 ok\r\n')
      }
    })
  }).listen(0, '127.0.0.1')
  await once(smtp, 'listening')
  t.teardown(() => { smtp.close() })
  const send = mailer({ ...settings, NODE_ENV: 'production', SMTP_URL: `smtp://127.0.0.1:${(smtp.address() as AddressInfo).port}?ignoreTLS=true` })!
  await send({ to: 'a@b.example', subject: 'Hello', text: 'Text' })
  t.ok(received.includes('RCPT TO:<a@b.example>') && received.includes('Subject: Hello') && received.includes('Text'), received.join('\n'))
})
