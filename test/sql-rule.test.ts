/* eslint no-template-curly-in-string: off -- the snippets are texts */
/** Statements are constants: the lint rule that says so, on code that it must refuse and on the code that it guards. */
import { spawn } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { json } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import t from 'tap'

const ROOT = fileURLToPath(new URL('../', import.meta.url))
const RULE = 'no-restricted-syntax'

interface Snippet { code: string, file?: string, isLax?: boolean }
interface Message { ruleId: string | null, message: string, fatal: boolean }

/** What the linter says of each of these. */
async function lint (snippets: readonly Snippet[]): Promise<Message[][]> {
  const child = spawn(process.execPath, ['test/fixtures/lint.js'], { cwd: ROOT, env: { ...process.env, NODE_OPTIONS: '' }, stdio: ['pipe', 'pipe', 'inherit'] })
  child.stdin.end(JSON.stringify(snippets.map(snippet => ({ file: 'demo/routes/snippet.ts', ...snippet }))))
  const answers = await json(child.stdout) as Message[][]
  for (const [i, messages] of answers.entries()) for (const { fatal, message } of messages) if (fatal) throw new Error(`${snippets[i]!.code}: ${message}`)
  return answers
}

/** The rule's complaints. */
async function refusalsOf (snippets: readonly Snippet[]): Promise<string[][]> {
  return (await lint(snippets)).map(messages => messages.filter(({ ruleId }) => ruleId === RULE).map(({ message }) => message))
}

/** A snippet, behind the names that it uses. */
function inScope (code: string): Snippet {
  return { code: code.startsWith('import') ? code : `declare const sql: any, kysely: any, name: string, order: string[], request: any, table: string\n${code}` }
}

t.test('attack: a statement that is built from values is refused, however it is built [ASVS 1.2.4]', async t => {
  const snippets = [
    'sql.query(`select * from users where name = \'${name}\'`)', 'sql.query(`select 1 from ${table}`)', 'await sql.query<{ id: string }>(`delete from posts where id = ${request.params.id}`, [])',
    'sql.query("select * from users where name = \'" + name + "\'")', 'sql.query(\'select \' + 1)', 'sql.query("select * from users".concat(name))', 'sql.query([\'select\', name].join(\' \'))',
    'sql.query(\'select %s\'.replace(\'%s\', name))', 'sql.query(String.raw`select ${name}`)', 'const text = `select ${name}`; sql.query(text)', 'sql.query(name)', 'sql.query(request.query.statement)',
    'sql.query(name === \'a\' ? \'select 1\' : name)', 'sql.query(...[name])', 'sql.query(String(name))', 'sql.query(`select 1` + name, [name])', 'sql.query((name))', 'sql.query(name as string)', 'sql.query(name!)', 'sql.query(await name)',
    'sql.script(`drop table ${table}`)', 'sql.script("set role " + name)', 'sql?.query(name)', 'sql.query?.(name)', 'sql[\'query\'](name)', 'request.server.sql.query(name)', 'sql.transaction((inner: any) => inner.query(`select ${name}`))',
    'const { query } = sql; query(`select ${name}`)', 'const { script } = sql; script(name)', 'sql.query.call(sql, `select ${name}`)', 'sql.query.apply(sql, [name])', 'sql.query.bind(sql, name)()',
    'kysely.raw(`now() - ${name}`)', 'kysely.lit(name)', 'import { sql as raw } from \'kysely\'\nraw.raw(name)', 'import { sql } from \'kysely\'', 'import { CompiledQuery } from \'kysely\'',
  ]
  for (const [i, refusals] of (await refusalsOf(snippets.map(inScope))).entries()) t.ok(refusals.length > 0, snippets[i]!)
})

t.test('a constant statement with its values beside it is not, nor is what only looks like one', async t => {
  const snippets = [
    'sql.query(\'select 1\')', 'sql.query("select * from users where name = $1", [name])', 'sql.query(`select *\n  from users\n  where name = $1`, [name])', 'await sql.query<{ id: string }>(\'select id from users where id = any($1::text[])\', [order])',
    'sql.query(\'select $1\', [`${name}%`])', 'sql.query(\'select $1\', [name + name])', 'sql.script(\'begin\')', 'sql.transaction(async (inner: any) => inner.query(\'select 1\'))', 'request.query.name.toUpperCase()',
    'order.map((query: any) => query.where(\'id\', \'>\', name))', 'kysely.selectFrom(\'users\').where(\'id\', \'=\', name)', 'request.raw.end()', 'const text = `select ${name}`',
  ]
  for (const [i, refusals] of (await refusalsOf(snippets.map(inScope))).entries()) t.strictSame(refusals, [], snippets[i]!)
})

t.test('the rule holds in the suite and in the portal', async t => {
  const files = ['plugins/sql.ts', 'plugins/mfa/store.ts', 'plugins/index.ts', 'plugins/new/concern.ts', 'demo/app.ts', 'demo/data/seed.ts', 'demo/routes/new.ts']
  const found = await refusalsOf(files.map(file => ({ ...inScope('sql.query(`select ${name}`)'), file })))
  for (const [i, refusals] of found.entries()) t.equal(refusals.length, 1, files[i]!)
})

t.test('the places that pass on a text which they were given are few, are named, and each says why', async t => {
  const named: Record<string, number> = {}
  for (const folder of ['plugins', 'demo']) {
    for (const path of readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' }).filter(name => name.endsWith('.ts'))) {
      for (const line of readFileSync(join(ROOT, folder, path), 'utf8').split('\n').filter(text => /eslint-disable/.test(text) && (text.includes(RULE) || !/eslint-disable-(?:next-)?line \S/.test(text)))) {
        named[join(folder, path)] = (named[join(folder, path)] ?? 0) + 1
        t.match(line, /eslint-disable-next-line no-restricted-syntax -- \S/, path)
      }
    }
  }
  t.strictSame(named, { 'plugins/sql.ts': 3, 'plugins/cipher/reencrypt.ts': 3, 'demo/data/tables.ts': 1, 'demo/data/database.ts': 1 })
})

t.test('negative control: without the rule the linter lets a built statement pass', async t => {
  const code = 'export const found = (sql: any, name: string) => sql.query(`select ${name}`)'
  const [strict, lax] = await lint([{ code }, { code, isLax: true }])
  t.match(strict, [{ ruleId: RULE }])
  t.strictSame(lax, [])
})
