/**
 * Which requirements of OWASP ASVS 5.0 the tests prove: `npm run asvs` prints it, `npm run asvs -- --write` writes the table into README.
 *
 * A requirement is claimed by its id in what tap prints of a test (`[ASVS 6.3.1]` in a title or in an assertion's message). It counts as proven where
 * that test, or the one right below it, also prints a negative control: the same attack, let in by plain Fastify, by an official plugin as it is documented,
 * or with the control off (`the control: …`). Comments count for nothing, and neither does a control that stands elsewhere in the file, or in another
 * subtest of the same test.
 */
import { readFile, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import ts from 'typescript'

export interface Requirement { id: string, level: number, chapter: string }
/** Where a requirement is claimed, and whether its control stands beside. */
export interface Claim { file: string, isControlled: boolean }

export interface Coverage {
  /** The requirements that are the suite's to fulfil. */
  suite: Requirement[]
  claims: Map<string, Claim[]>
  /** Claimed, and not the suite's. */
  others: string[]
}

const TESTS = fileURLToPath(new URL('../', import.meta.url))
const README = fileURLToPath(new URL('../../README.md', import.meta.url))
export const BLOCK = /(<!-- asvs -->\n)[\s\S]*?(?=\n## )/
const CONTROL = /negative control|\bthe control: |plain Fastify|the official (?:plugin|limiter|one)/i
/** A test that is one, as a whole. */
const CONTROLLING = /^negative control\b/i
const CLAIM = /\[[^\]]*\bASVS [^\]]*\]/g
/** Longer texts are programs and documents that a test holds, not what it prints. */
const MAX_PRINTED = 300

export async function coverage (): Promise<Coverage> {
  const { rows, chapters } = JSON.parse(await readFile(new URL('asvs.json', import.meta.url), 'utf8')) as { rows: [string, number, string][], chapters: Record<string, string> }
  const suite = rows.filter(([, , fit]) => fit === 'suite').map(([id, level]) => ({ id, level, chapter: `V${id.split('.')[0]} ${chapters[id.split('.')[0]!]}` }))
  const known = new Set(suite.map(({ id }) => id))
  const claims = new Map<string, Claim[]>()
  const files = (await readdir(TESTS, { recursive: true })).filter(name => name.endsWith('.test.ts')).sort()
  for (const file of files) {
    const source = await readFile(join(TESTS, file), 'utf8')
    if (!source.includes('ASVS ')) continue
    for (const [id, isControlled] of claimsIn(ts.createSourceFile(file, source, ts.ScriptTarget.ES2022, true))) {
      claims.set(id, [...claims.get(id) ?? [], { file: `test/${file.replaceAll('\\', '/')}`, isControlled }])
    }
  }
  return { suite, claims, others: [...claims.keys()].filter(id => !known.has(id)).sort(byNumber) }
}

/** The table of README. */
export function tableOf ({ suite, claims }: Coverage): string {
  const share = (rows: readonly Requirement[]) => rows.length === 0 ? '' : `${rows.filter(({ id }) => isProven(claims.get(id))).length}/${rows.length}`
  const line = (name: string, rows: readonly Requirement[]) =>
    `| ${[name, ...[1, 2, 3].map(level => share(rows.filter(row => row.level === level))), share(rows)].join(' | ')} |`
  const chapters = [...new Set(suite.map(({ chapter }) => chapter))]
  return [
    '| chapter | level 1 | level 2 | level 3 | proven |',
    '|---|---|---|---|---|',
    ...chapters.map(chapter => line(chapter, suite.filter(row => row.chapter === chapter))),
    line('**all**', suite),
  ].join('\n')
}

export function isProven (claims: readonly Claim[] | undefined): boolean {
  return claims?.some(({ isControlled }) => isControlled) === true
}

/** What is not counted, and why. */
export function notCounted ({ suite, claims, others }: Coverage): string[] {
  const claimed = suite.filter(({ id }) => claims.has(id) && !isProven(claims.get(id)))
  const silent = suite.filter(({ id }) => !claims.has(id))
  return [
    `claimed without a negative control (${claimed.length}):`,
    ...claimed.map(({ id }) => `  ${id} in ${[...new Set(claims.get(id)!.map(({ file }) => file))].join(', ')}`),
    `claimed by no test (${silent.length}): ${silent.map(({ id }) => id).join(' ')}`,
    `claimed, and not the suite's own (${others.length}): ${others.join(' ')}`,
  ]
}

/** Each claim of a file, and whether a control stands in the test that makes it or right below that. */
export function claimsIn (source: ts.SourceFile): [id: string, isControlled: boolean][] {
  const found = new Map<ts.Node, Set<string>>()
  function visit (node: ts.Node, test: ts.Node): void {
    const inner = isTest(node) || node.parent === source ? node : test
    if (isText(node)) for (const id of idsIn(node.text)) found.set(test, (found.get(test) ?? new Set()).add(id))
    ts.forEachChild(node, part => { visit(part, inner) })
  }
  visit(source, source)
  return [...found].flatMap(([test, ids]) => {
    const isControlled = textsIn(test).some(text => CONTROL.test(text)) || CONTROLLING.test(textsIn(below(test))[0] ?? '')
    return [...ids].map((id): [string, boolean] => [id, isControlled])
  })
}

/** `t.test('…', …)` */
function isTest (node: ts.Node): boolean {
  return ts.isCallExpression(node) && ts.isPropertyAccessExpression(node.expression) && node.expression.name.text === 'test'
}

/** The statement that follows that of a test, or the loop in which it is the last one. */
function below (test: ts.Node): ts.Node | undefined {
  for (let node = test; node.parent !== undefined && !ts.isFunctionLike(node); node = node.parent) {
    if (!ts.isBlock(node.parent) && !ts.isSourceFile(node.parent)) continue
    const next = node.parent.statements[node.parent.statements.indexOf(node as ts.Statement) + 1]
    if (next !== undefined) return next
  }
  return undefined
}

function isText (node: ts.Node): node is ts.StringLiteralLike | ts.TemplateHead | ts.TemplateMiddle | ts.TemplateTail {
  return (ts.isStringLiteralLike(node) || ts.isTemplateHead(node) || ts.isTemplateMiddle(node) || ts.isTemplateTail(node)) && node.text.length < MAX_PRINTED
}

/** Texts of a statement, as far as they may be printed. */
function textsIn (node: ts.Node | undefined): string[] {
  const texts: string[] = []
  function visit (part: ts.Node): void {
    if (isText(part)) texts.push(part.text)
    ts.forEachChild(part, visit)
  }
  if (node !== undefined) visit(node)
  return texts
}

function idsIn (text: string): string[] {
  return [...text.matchAll(CLAIM)].flatMap(([claim]) => [...claim.matchAll(/\d+\.\d+\.\d+/g)].map(([id]) => id))
}

function byNumber (one: string, other: string): number {
  return one.localeCompare(other, 'en', { numeric: true })
}

if (process.argv[1] !== undefined && pathToFileURL(process.argv[1]).href === import.meta.url) {
  const found = await coverage()
  console.log(`${tableOf(found)}\n\nNot counted:\n${notCounted(found).join('\n')}`)
  if (process.argv.includes('--write')) {
    const readme = await readFile(README, 'utf8')
    await writeFile(README, readme.replace(BLOCK, (_all, marker: string) => `${marker}\n${tableOf(found)}\n`))
  }
}
