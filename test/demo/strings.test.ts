/** Attack strings (OWASP API8:2023, CWE-20, CWE-74): each in every text of every route of the portal, beside fields that are good. */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { Value } from '@sinclair/typebox/value'
import { parseFragment, type DefaultTreeAdapterTypes } from 'parse5'
import t from 'tap'
import { HTML_ALLOWLISTS, type HtmlAllowlist } from '../../plugins/html.js'
import type { PlannedRoute } from '../../plugins/plan/index.js'
import { Hostname } from '../../schemas/index.js'
import { CALLERS, castOf } from './cast.js'
import { COSTLY, encode, ENDLESS, FORM, likelyCaller, sampleOf, textsIn, wireOf, type Schema } from './generators.js'
import { build, faultsOf, type Answer } from './portal.js'
import { ALL_STRINGS, MARK, STRINGS } from './strings.js'

t.setTimeout(600_000)
/** Each text gets its share of the strings: the least in a costly route, and where the pattern takes next to nothing. `ATTACK_STRINGS=all` sends more. */
const SHARES = process.env.ATTACK_STRINGS === 'all' ? { costly: 40, narrow: 12, open: 1 } : { costly: 80, narrow: 30, open: 3 }
/** Milliseconds between two requests, and requests after which everybody signs in anew. */
const PACE = 100
const SEASON = 1000
/** What is shown of a text elsewhere. */
const READ_AGAIN: Readonly<Record<string, (id: string) => string>> = { 'POST /posts': id => `/posts/${id}`, 'PUT /posts/:postId': id => `/posts/${id}`, 'PUT /documents/:documentId': id => `/documents/${id}`, 'PATCH /users/me': () => '/users/me' }

type Node = DefaultTreeAdapterTypes.Node
type Values = Record<string, unknown>

const portal = await build(t)
const { app, sql, log, pass, call } = portal
const cast = await castOf(portal)

/** What a browser would make of it beside what is allowed. */
function beyond (html: string, allowed: HtmlAllowlist): string[] {
  const found: string[] = []
  const look = (node: Node) => {
    if ('tagName' in node) {
      const attributes = Object.hasOwn(allowed, node.tagName) ? [...allowed[node.tagName]!, 'rel'] : null
      if (attributes === null) found.push(node.tagName)
      for (const { name, value } of node.attrs) if (attributes?.includes(name) !== true || (name === 'href' && !/^(?:https?:\/\/|mailto:)/i.test(value))) found.push(`${node.tagName}[${name}=${value}]`)
    }
    if ('childNodes' in node) node.childNodes.forEach(look)
  }
  look(parseFragment(html))
  return found
}

/** The text is as its schema says that it is kept. Addresses are compared in lower case; PGlite's decoder takes a byte order mark away from the start of a value, PostgreSQL's client does not. */
function isKept (value: string, text: string, { normalize, trim }: Schema): boolean {
  const composed = normalize === undefined ? text : text.normalize(normalize)
  const kept = trim === true ? composed.trim() : composed
  return [kept, kept.toLowerCase(), kept.replace(/^\ufeff/, '')].includes(value)
}

let sent = 0
async function send (route: PlannedRoute, caller: string, path: string, body: unknown): Promise<Answer> {
  const method = route.method.split(',')[0]!
  const { type } = wireOf((route.options.schema as { body?: Schema } | undefined)?.body)
  const payload = body === undefined ? undefined : cast.fill(type === FORM ? Object.entries(body as Record<string, string>).map(([name, value]) => `${encode(name)}=${encode(value)}`).join('&') : JSON.stringify(body))
  for (;;) {
    const answer = await app.inject({
      method: method as 'GET',
      url: cast.fill(path),
      remoteAddress: `10.2.${(sent >> 8) & 255}.${sent & 255}`,
      headers: { host: 'localhost:3000', ...Object.fromEntries(Object.entries(CALLERS[caller]!).map(([name, value]) => [name, cast.fill(value)])), ...payload !== undefined && { 'content-type': type } },
      ...payload !== undefined && { payload },
    })
    const isJson = /json/.test(String(answer.headers['content-type'])) && answer.body !== ''
    // The machine may be busy with something else.
    if (answer.statusCode === 503 && app.overload.isUnderPressure()) await new Promise(resolve => { setTimeout(resolve, 100) })
    else return { status: answer.statusCode, headers: answer.headers, text: answer.body, body: isJson ? answer.json() : undefined }
  }
}

/** What is wrong with the answer to this string, whatever it is. */
function faultsAfter (what: string, string: string, answer: Answer): string[] {
  const { status, headers, text } = answer
  return [
    ...faultsOf(what, answer, false),
    ...status >= 500 ? ['a failure'] : [],
    ...status >= 400 && string.length >= 8 && text.includes(JSON.stringify(string).slice(1, -1)) ? [`the refusal repeats it: ${text}`] : [],
    ...JSON.stringify(headers).includes(MARK) ? [`in a header: ${JSON.stringify(headers)}`] : [],
    ...log.splice(0).flatMap(line => {
      // That somebody guesses is worth an alert.
      const isOne = /^\{[^\n\r]*\}\n$/.test(line)
      return isOne && (JSON.parse(line).level < 50 || JSON.parse(line).alert !== undefined) ? [] : [`in the log: ${line}`]
    }),
  ]
}

t.test('attack: no string does anything, in whatever text of whatever route it stands [ASVS 1.2.1] [ASVS 1.2.4] [ASVS 1.3.1] [ASVS 16.4.1]', async t => {
  t.ok(ALL_STRINGS.length >= 300, `${ALL_STRINGS.length} strings`)
  const tables = await sql.query('select table_name from information_schema.tables where table_schema = $1 order by 1', ['public'])
  const given = { kept: 0, refused: 0, texts: 0 }
  let offset = 0

  for (const route of app.plan.routes.filter(({ kind, url }) => kind === 'route' && url !== '*' && url !== ENDLESS)) {
    const what = `${route.method} ${route.url}`
    const caller = likelyCaller(route)
    const { params, querystring, body: declared } = (route.options.schema ?? {}) as { params?: Schema, querystring?: Schema, body?: Schema }
    const body = wireOf(declared).schema
    const names = Object.keys(params?.properties ?? {})
    const pathWith = (name?: string, string = '') => names.reduce((path, each) => path.replace(each === '*' ? '*' : `:${each}`, () => each === name ? encode(string) : String(sampleOf(params!.properties![each]!, each))), route.url)
    const queryWith = (values: Values) => Object.keys(values).length === 0 ? '' : `?${Object.entries(values).map(([name, value]) => `${encode(name)}=${encode(String(value))}`).join('&')}`
    const query = querystring === undefined ? {} : sampleOf(querystring) as Values

    const targets: { schema: Schema, name: string, ask: (string: string) => Promise<Answer>, shown: boolean }[] = [
      ...names.map(name => ({ schema: params!.properties![name]!, name, ask: (string: string) => send(route, caller, pathWith(name, string) + queryWith(query), body === undefined ? undefined : sampleOf(body)), shown: false })),
      ...Object.entries(querystring?.properties ?? {}).map(([name, schema]) => ({ schema, name, ask: (string: string) => send(route, caller, pathWith() + queryWith({ ...query, [name]: string }), undefined), shown: false })),
      ...textsIn(body).map(({ schema, name, put }) => ({ schema, name, ask: (string: string) => send(route, caller, pathWith() + queryWith(query), put(string)), shown: true })),
    ]
    for (const { schema, name, ask, shown } of targets) {
      given.texts++
      offset++
      const share = COSTLY.test(what) ? SHARES.costly : schema.pattern !== undefined && !schema.pattern.includes('[^') ? SHARES.narrow : SHARES.open
      for (const string of ALL_STRINGS.filter((_string, i) => i % share === offset % share)) {
        // No name is looked up on the network.
        if (name === 'host' && Value.Check(Hostname, string)) continue
        if (sent++ % SEASON === 0) await cast.renew()
        pass(PACE)
        log.length = 0
        const answer = await ask(string)
        const faults = faultsAfter(what, string, answer)
        if (answer.status === 401 && caller !== 'nobody') await cast.revive(caller)
        const isTaken = answer.status < 300
        given[isTaken ? 'kept' : 'refused']++
        const again = isTaken && shown ? READ_AGAIN[what] : undefined
        const answers = [answer, ...again === undefined ? [] : [await call('GET', again(answer.body.id), { token: cast.fill('@alice:token@') })]]
        for (const { body: shownBody } of isTaken && shown ? answers : []) {
          const value = shownBody?.[name]
          if (schema.html !== undefined) {
            const left = beyond(`<div>${String(value)}</div>`, { ...HTML_ALLOWLISTS[schema.html], div: [] })
            if (left.length > 0) faults.push(`a browser would find ${left.join(', ')} in ${String(value)}`)
          } else if (typeof value === 'string' && name !== 'refresh_token' && !isKept(value, string, schema)) faults.push(`kept as ${JSON.stringify(value)}`)
        }
        if (faults.length > 0) t.fail(`${what} ${name} ${JSON.stringify(string)} (${answer.status}): ${[...new Set(faults)].join('; ')}`)
      }
    }
  }

  t.comment(`${sent} requests to ${given.texts} texts: ${given.kept} taken, ${given.refused} refused`)
  t.ok(given.kept > 1000 && given.refused > 1000)
  t.same(await sql.query('select table_name from information_schema.tables where table_schema = $1 order by 1', ['public']), tables, 'all tables are there')
  t.same((await sql.query("select username from users where role = 'admin' and id not like 'cast-%'")), [{ username: 'admin' }], 'nobody became an admin')
  t.equal(({} as { polluted?: unknown }).polluted, undefined)
  t.notOk(existsSync(MARK) || existsSync(join(tmpdir(), MARK)), 'no command was run')
})

t.test('while they do what they want where nothing stands against them', async t => {
  await t.test('in a statement that is built', async t => {
    const found = await Promise.all(STRINGS.sql!.filter(string => !/drop|delete|update|insert|truncate|copy|sleep|exec/i.test(string)).map(string => sql.query(`select id from users where username = '${string}'`).then(rows => rows.length, () => -1)))
    t.ok(found.filter(count => count > 1).length >= 4, 'who asks for nobody gets everybody')
    t.ok(found.filter(count => count === -1).length >= 10, 'and much of it breaks the statement')
  })
  await t.test('in a page that shows them as they are', async t => {
    t.ok(STRINGS.html!.filter(string => beyond(string, HTML_ALLOWLISTS.post).length > 0).length >= 45)
  })
  await t.test('in a shell', async t => {
    const folder = mkdtempSync(join(tmpdir(), 'shell-'))
    t.teardown(() => { rmSync(folder, { recursive: true }) })
    execFileSync('sh', ['-c', `echo ${STRINGS.command![0]}`], { cwd: folder })
    t.ok(existsSync(join(folder, MARK)))
  })
  await t.test('in a path', async t => {
    t.ok(STRINGS.path!.filter(string => !resolve('/srv/uploads', string).startsWith('/srv/uploads')).length >= 8)
  })
  await t.test('in a line of a log that is no JSON', async t => {
    t.ok(STRINGS.line!.filter(string => `info: ${string}`.split(/[\r\n]/).length > 1).length >= 8)
  })
  await t.test('in a pattern', async t => {
    const works = (string: string) => {
      try {
        return new RegExp(string).test('anything')
      } catch {
        return null
      }
    }
    t.ok(STRINGS.pattern!.filter(string => works(string) === null).length >= 5, 'which they break')
    t.ok(STRINGS.pattern!.filter(string => works(string) === true).length >= 1, 'or open')
  })
})
