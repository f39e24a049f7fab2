/** Registration by mail (`REGISTRATION=quiet`): the answer tells nobody which names and addresses are known. */
import { setTimeout as pause } from 'node:timers/promises'
import t, { type Test } from 'tap'
import type { PortalSettings } from '../../demo/settings.js'
import { buildPortal } from '../../demo/app.js'
import { APP_SECRET, build as buildOne, freshDatabase, ORIGIN, type Answer, type PortalUnderTest } from './portal.js'

const PASSWORD = 'Fresh-password-7'
const DAY = 86_400_000

interface Built extends PortalUnderTest {
  register: (body?: object, address?: string) => Promise<Answer>
  confirm: (token: string) => Promise<Answer>
  /** Registers and answers the mails that this causes, which are written beside the request. */
  mailsOf: (ask: () => Promise<unknown>, expected?: number) => Promise<PortalUnderTest['mails']>
  /** Registers and answers the token in the mail. */
  link: (body?: object) => Promise<string>
}

async function build (t: Test, settings: Partial<PortalSettings> = { REGISTRATION: 'quiet' }): Promise<Built> {
  const portal = await buildOne(t, settings)
  const { call, mails } = portal
  const register = (body: object = {}, address?: string) =>
    call('POST', '/auth/register', { body: { username: 'newcomer', email: 'new@people.example', password: PASSWORD, ...body }, ...address !== undefined && { address } })
  const mailsOf: Built['mailsOf'] = async (ask, expected = 1) => {
    await pause(50) // those of requests before
    const before = mails.length
    await ask()
    for (let i = 0; i < 100 && mails.length < before + expected; i++) await pause(5)
    await pause(20)
    return mails.slice(before)
  }
  return {
    ...portal,
    register,
    mailsOf,
    confirm: token => call('POST', '/auth/confirm', { body: { token } }),
    link: async body => tokenIn((await mailsOf(() => register(body)))[0]),
  }
}

const tokenIn = (mail: { text: string } | undefined) => /\n\n([\w-]+\.[\w-]{43})/.exec(mail?.text ?? '')?.[1] ?? ''
const unlike = new Set(['date', 'x-request-id', 'x-ratelimit-remaining', 'x-ratelimit-reset', 'ratelimit'])
/** An answer without what differs between any two. */
const seen = ({ status, text, headers }: Answer) => ({ status, text, headers: Object.fromEntries(Object.entries(headers).filter(([name]) => !unlike.has(name))) })

t.test('the account is made when the link of its mail comes back, once, with its address confirmed', async t => {
  const { register, confirm, mailsOf, signIn, call, sql } = await build(t)
  const [mail] = await mailsOf(async () => t.match(await register({ email: 'New@People.example', bio: 'Hello' }), { status: 202, text: '' }))
  t.match(mail, { to: 'new@people.example', subject: 'Complete your registration' })
  t.notMatch(mail!.text, /argon2|Fresh-password/, 'no password and no hash is in a mail')
  t.equal((await call('POST', '/auth/login', { body: { username: 'newcomer', password: PASSWORD } })).status, 401, 'not before')
  t.same(await sql.query("select id from users where username = 'newcomer'"), [])

  const answers = await Promise.all(Array.from({ length: 5 }, () => confirm(tokenIn(mail))))
  t.strictSame(answers.map(({ status }) => status).sort(), [204, 400, 400, 400, 400], 'of links that come at once, one')
  t.match(await confirm(tokenIn(mail)), { status: 400, body: { code: 'FST_BASTION_TOKENS_LINK_INVALID' } })
  const { access_token: token } = await signIn('newcomer', PASSWORD)
  t.match((await call('GET', '/users/me', { token })).body, { username: 'newcomer', email: 'new@people.example', emailConfirmed: true, role: 'user', plan: 'basic', bio: 'Hello' })
  t.same(await sql.query('select id from registrations'), [], 'nothing is left of it')
})

t.test('a new name, a taken name and a known address get the same answer for the same work [ASVS 6.3.8]', async t => {
  const { register, app, sql, mailsOf } = await build(t)
  const [{ email: known } = { email: '' }] = await sql.query<{ email: string }>("select email from users where username = 'mona'")
  let hashes = 0
  let statements: string[] = []
  const { passwords } = app
  const { hash } = passwords
  const { query } = sql
  passwords.hash = async password => { hashes++; return hash(password) }
  sql.query = async (text, values) => { statements.push(text); return query(text, values) }
  const asked: Record<string, object> = {
    'a new name': { username: 'somebody', email: 'somebody@people.example' },
    'a taken name': { username: 'Mona', email: 'other@people.example' },
    'a known address': { username: 'mona_too', email: known.toUpperCase() },
    'both known': { username: 'mona', email: known },
    'a name of the service': { username: 'support', email: 'third@people.example' },
  }
  const answers: Record<string, unknown> = {}
  const mails: Record<string, string> = {}
  for (const [what, body] of Object.entries(asked)) {
    const before = hashes
    let work: string[] = []
    const [mail] = await mailsOf(async () => {
      statements = []
      const answer = await register(body)
      work = statements.slice(0, 2)
      answers[what] = { ...seen(answer), hashes: hashes - before, work }
    })
    mails[what] = `${mail!.to} ${mail!.subject}`
  }
  t.match(answers['a new name'], { status: 202, text: '', hashes: 1, work: [/^delete from "registrations"/, /^insert into "registrations"/] })
  for (const what of Object.keys(asked)) t.strictSame(answers[what], answers['a new name'], what)
  t.strictSame(mails, {
    'a new name': 'somebody@people.example Complete your registration',
    'a taken name': 'other@people.example This name is taken',
    'a known address': `${known} You have an account already`,
    'both known': `${known} You have an account already`,
    'a name of the service': 'third@people.example This name is taken',
  }, 'who reads the address is told')
  t.equal((await sql.query('select id from registrations')).length, 1, 'what cannot become an account is not kept')
})

t.test('negative control: open registration tells which names are known, and is the default', async t => {
  const { register, mails } = await build(t, {})
  t.match(await register(), { status: 201, body: { username: 'newcomer', emailConfirmed: false } })
  t.match(await register({ username: 'mona' }), { status: 409, body: { code: 'FST_PORTAL_NAME_TAKEN' } })
  await pause(50)
  t.match(mails, [{ subject: 'Confirm your address' }])
})

t.test('in both modes what is weak or malformed is refused: that tells nothing of accounts', async t => {
  for (const settings of [{ REGISTRATION: 'quiet' }, {}] as const) {
    const { register, mails, sql } = await build(t, settings)
    for (const username of ['newcomer', 'mona']) {
      t.match(await register({ username, password: 'weak' }), { status: 400, body: { code: 'FST_BASTION_PASSWORDS_WEAK' } })
      t.match(await register({ username, password: 'Password1!' }), { status: 400, body: { code: 'FST_BASTION_PASSWORDS_WEAK' } }, 'a common one')
      t.match(await register({ username, email: 'no address' }), { status: 400, body: { code: 'FST_BASTION_VALIDATION_REFUSED' } })
      t.equal((await register({ username: `${username}!` })).status, 400)
      t.equal((await register({ username, role: 'admin' })).status, 400)
    }
    await pause(50)
    t.same(mails, [])
    t.same(await sql.query('select id from registrations'), [])
  }
})

t.test('a registration keeps no name for anybody: whose link comes first has it, and the other learns it by mail alone', async t => {
  const { link, confirm, mailsOf, sql, signIn } = await build(t)
  const first = await link({ email: 'first@people.example' })
  const second = await link({ email: 'second@people.example', username: 'NewComer', password: 'Another-password-8' })
  t.equal((await confirm(second)).status, 204)
  const sent = await mailsOf(async () => t.match(await confirm(first), { status: 400, body: { code: 'FST_BASTION_TOKENS_LINK_INVALID' } }))
  t.match(sent, [{ to: 'first@people.example', subject: 'Too late' }])
  t.equal((await mailsOf(() => confirm(first), 0)).length, 0, 'once')
  await signIn('newcomer', 'Another-password-8')
  t.same(await sql.query('select id from registrations'), [])

  const one = await link({ username: 'one_person', email: 'same@people.example' })
  const two = await link({ username: 'two_person', email: 'same@people.example' })
  t.equal((await confirm(one)).status, 204)
  t.equal((await confirm(two)).status, 400, 'an address belongs to one account')
})

t.test('a link is good for a day, for one purpose, and only as it was sent', async t => {
  const { link, confirm, pass, call, sql, register, mailsOf } = await build(t)
  const late = await link()
  pass(DAY)
  t.equal((await confirm(late)).status, 400)
  const good = await link({ username: 'in_time', email: 'in_time@people.example' })
  t.same((await sql.query('select username from registrations')), [{ username: 'in_time' }], 'what nobody answered is forgotten')
  t.equal((await call('POST', '/auth/reset', { body: { token: good, newPassword: PASSWORD } })).status, 400)
  for (const other of [`${good}A`, good.slice(0, -1), `${good.split('.')[0]}.${'A'.repeat(43)}`]) t.equal((await confirm(other)).status, 400)
  t.equal((await confirm(good)).status, 204)

  const { access_token: token } = (await call('POST', '/auth/login', { body: { username: 'in_time', password: PASSWORD } })).body
  const mails = await mailsOf(() => call('PATCH', '/users/me', { token, body: { email: 'moved@people.example' } }), 2)
  t.equal((await confirm(tokenIn(mails.find(({ to }) => to === 'moved@people.example')))).status, 204, 'an address that is changed is confirmed as ever')
  t.equal((await register({}, '198.51.100.7')).status, 202)
})

t.test('limits hold: three mails an hour for an address, whatever its mails say, and a budget for who asks', async t => {
  const { register, mailsOf } = await build(t)
  const sent = await mailsOf(async () => {
    for (let i = 0; i < 5; i++) t.equal((await register({ username: i % 2 === 0 ? 'mona' : `name_${i}` })).status, 202)
  }, 3)
  t.equal(sent.length, 3)
  const statuses: number[] = []
  for (let i = 0; i < 11; i++) statuses.push((await register({ password: 'weak' }, '198.51.100.9')).status)
  t.strictSame(statuses, [...Array.from({ length: 10 }, () => 400), 429])
})

t.test('misconfiguration stops the start: where no mails can be sent, nobody could complete a registration', async t => {
  const sql = await freshDatabase(t)
  const settings = { NODE_ENV: 'test', DATA_DIR: '', JWT_ALGORITHM: 'HS256', PASSWORD_POLICY: 'composition', LOG_LEVEL: 'silent', REGISTRATION: 'quiet' } as PortalSettings
  await t.rejects(buildPortal({ settings, secret: APP_SECRET, sql, origin: ORIGIN, mail: null }), { message: /REGISTRATION=quiet needs SMTP_URL/ })
})
