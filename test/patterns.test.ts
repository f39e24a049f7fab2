/** Patterns: none of the suite or the demo can be matched in so many ways that a text stalls the service. */
import { readdir, readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { runInNewContext } from 'node:vm'
import { RegExpParser, visitRegExpAST, type AST } from '@eslint-community/regexpp'
import ts from 'typescript'
import t from 'tap'

const ROOT = fileURLToPath(new URL('../', import.meta.url))
/** Of a bounded repetition so many are looked at that must be there, and so many more. */
const COPIES = 2
const SAMPLE = [...'aAzZ059_- .,;:/\\@#%&=+*?!"\'<>()[]{}|~`^$\t\n\r\0é漢\u0301\u00a0\u200b\u2028\ud800', '\u{1F600}']

interface Place { matches: ReadonlySet<string>, next: Map<Place, number> }
interface Part { isEmpty: boolean, first: Place[], last: Place[] }

/** The places of a pattern, and how one follows another (Glushkov): twice, where two repetitions lead to it. */
function placesOf (source: string, flags: string): Place[] {
  const pattern = new RegExpParser().parsePattern(source, 0, source.length, { unicode: flags.includes('u'), unicodeSets: flags.includes('v') })
  const letters = new Set(SAMPLE)
  visitRegExpAST(pattern, {
    onCharacterEnter ({ value }) { for (const near of [value - 1, value, value + 1]) if (near >= 0 && near <= 0x10ffff) letters.add(String.fromCodePoint(near)) },
  })
  const places: Place[] = []

  function joined (one: Part, other: Part): Part {
    link(one, other)
    return { isEmpty: one.isEmpty && other.isEmpty, first: [...one.first, ...one.isEmpty ? other.first : []], last: [...other.last, ...other.isEmpty ? one.last : []] }
  }
  function link ({ last }: Part, { first }: Part): void {
    for (const place of last) for (const next of first) place.next.set(next, (place.next.get(next) ?? 0) + 1)
  }
  const nothing = (): Part => ({ isEmpty: true, first: [], last: [] })
  const choice = (alternatives: readonly AST.Alternative[]): Part => alternatives.map(({ elements }) => elements.map(partOf).reduce(joined, nothing()))
    .reduce((one, other) => ({ isEmpty: one.isEmpty || other.isEmpty, first: [...one.first, ...other.first], last: [...one.last, ...other.last] }))

  function partOf (element: AST.Element): Part {
    switch (element.type) {
      case 'Group': case 'CapturingGroup': return choice(element.alternatives)
      case 'Quantifier': return repeated(element)
      case 'Assertion':
        if (element.kind === 'lookahead' || element.kind === 'lookbehind') choice(element.alternatives)
        return nothing()
      case 'Backreference': return nothing()
      default: {
        const one = new RegExp(`^(?:${element.raw})$`, flags.replace(/[gy]/g, ''))
        const place: Place = { matches: new Set([...letters].filter(letter => one.test(letter))), next: new Map() }
        places.push(place)
        return { isEmpty: false, first: [place], last: [place] }
      }
    }
  }
  function repeated ({ element, min, max }: AST.Quantifier): Part {
    let all = nothing()
    for (let i = 0; i < Math.min(max === Infinity ? 0 : max - min, COPIES); i++) all = { ...joined(partOf(element), all), isEmpty: true }
    if (max === Infinity) {
      const one = partOf(element)
      link(one, one)
      all = { ...one, isEmpty: one.isEmpty || min === 0 }
    }
    for (let i = max === Infinity ? 1 : 0; i < Math.min(min, COPIES); i++) all = joined(partOf(element), all)
    return all
  }
  choice(pattern.alternatives)
  return places
}

function from (place: Place): Set<Place> {
  const reached = new Set<Place>()
  const todo = [place]
  while (todo.length > 0) for (const next of todo.pop()!.next.keys()) if (!reached.has(next)) { reached.add(next); todo.push(next) }
  return reached
}

/** Some text leads from a place back to it in two ways: each repetition of that text doubles the ways, and all of them are tried. */
function isExponential (source: string, flags = ''): boolean {
  const reached = new Map(placesOf(source, flags).map(place => [place, from(place)]))
  const isWithin = (place: Place, next: Place) => reached.get(next)!.has(place)
  for (const [place] of reached) for (const [next, ways] of place.next) if (ways > 1 && isWithin(place, next)) return true

  const ids = new Map([...reached.keys()].map((place, i) => [place, i]))
  const idOf = (one: Place, other: Place) => ids.get(one)! * ids.size + ids.get(other)!
  const seen = new Map<number, boolean>()
  const back = new Map<number, number[]>()
  const todo: (readonly [Place, Place])[] = []
  for (const [place, places] of reached) if (places.has(place)) todo.push([place, place])
  for (const [place] of todo) seen.set(idOf(place, place), true)
  while (todo.length > 0) {
    const [one, other] = todo.pop()!
    for (const next of one.next.keys()) {
      if (!isWithin(one, next)) continue
      for (const beside of other.next.keys()) {
        if (!isWithin(other, beside) || (next !== beside && ![...next.matches].some(letter => beside.matches.has(letter)))) continue
        const id = idOf(next, beside)
        back.set(id, [...back.get(id) ?? [], idOf(one, other)])
        if (seen.has(id)) continue
        seen.set(id, false)
        todo.push([next, beside])
      }
    }
  }
  const returning = [...seen].filter(([, isOne]) => isOne).map(([id]) => id)
  const met = new Set(returning)
  while (returning.length > 0) {
    for (const id of back.get(returning.pop()!) ?? []) {
      if (met.has(id)) continue
      if (seen.get(id) === false) return true
      met.add(id)
      returning.push(id)
    }
  }
  return false
}

interface Found { file: string, source: string, flags: string }

/** Every pattern that is written down: as one, and as the text of one in a schema or a constructor; and those that are put together. */
async function patterns (): Promise<{ found: Found[], made: string[] }> {
  const found: Found[] = []
  const made: string[] = []
  for (const folder of ['plugins', 'schemas', 'demo']) {
    for (const name of (await readdir(`${ROOT}${folder}`, { recursive: true })).sort()) {
      if (!/\.(?:ts|js)$/.test(name) || /^(?:attacks|lab|vulnerable)\b/.test(name)) continue
      const file = `${folder}/${name}`
      const visit = (node: ts.Node): void => {
        if (ts.isRegularExpressionLiteral(node)) {
          const end = node.text.lastIndexOf('/')
          found.push({ file, source: node.text.slice(1, end), flags: node.text.slice(end + 1) })
        } else if (ts.isStringLiteralLike(node) && /^\^.*\$$/s.test(node.text)) found.push({ file, source: node.text, flags: 'u' })
        else if (ts.isNewExpression(node) && node.expression.getText() === 'RegExp' && !ts.isStringLiteralLike(node.arguments![0]!)) made.push(file)
        ts.forEachChild(node, visit)
      }
      visit(ts.createSourceFile(file, await readFile(`${ROOT}${file}`, 'utf8'), ts.ScriptTarget.ES2022, true))
    }
  }
  return { found, made: [...new Set(made)] }
}

t.test('no pattern can be matched in ever more ways, and none is made of what is sent [ASVS 1.3.12]', async t => {
  const { found, made } = await patterns()
  t.ok(found.length > 300, `${found.length} patterns`)
  t.strictSame(found.filter(({ source, flags }) => isExponential(source, flags)).map(({ file, source }) => `${file}: ${source}`), [])
  t.strictSame(made.filter(file => !file.startsWith('plugins/testing/')), ['plugins/posture/changes/fields.ts', 'plugins/posture/fields.ts', 'plugins/settings/secrets.ts', 'demo/web/sanitised.js'], 'of schemas and of words of ours alone')
})

t.test('negative control: what is found to be so stalls', t => {
  const stalling = ['^(?:[a-z]+)*$', '^(?:a|[a-c])*$', '^(?:a*b?)*$', '^(?:a{1,9})+$', '^(?:a{0,9}b{0,9})*$', '^(?:aa|aaa)+$', '^(?:\\w+\\s?)+$', '^(?:[a-z]|[^b-z])+$', '^(?:(?:a|ab)(?:c|bc)?)+$']
  for (const pattern of stalling) t.equal(isExponential(pattern), true, pattern)
  for (const pattern of ['^[a-z]+$', '^(?:[a-z]+-)*[a-z]+$', '^(?:a|b)*$', '^(?:ab|ac)+$', '^(?:a{3})*$', '^\\d{1,3}(?:\\.\\d{1,3}){3}$', '^a*a*a*$']) t.equal(isExponential(pattern), false, pattern)
  for (const pattern of stalling.slice(0, 3)) t.throws(() => { runInNewContext(`/${pattern}/.test('${'a'.repeat(60)}!')`, {}, { timeout: 50 }) }, { code: 'ERR_SCRIPT_EXECUTION_TIMEOUT' }, `${pattern} is not done with sixty letters`)
  t.end()
})
