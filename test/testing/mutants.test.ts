/** The mutations that the attack kit is measured by: that all of them apply, that no kind of finding lacks one, and two of them tried whole. `npm run mutants` tries them all. */
import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { FINDING_IDS } from '../../plugins/testing/catalogue.js'
import { randomOf } from '../../plugins/testing/random.js'
import { rowOf } from './mutants/score.js'
import { MUTANTS, NOT_MUTATED } from './mutants/table.js'
import { Copy, ROOT, timesIn } from './mutants/trying.js'

t.setTimeout(280_000)

t.test('the text that a mutation replaces is in its file exactly once, and it is replaced by another', async t => {
  for (const mutant of MUTANTS) {
    t.equal(await timesIn(mutant), 1, `${mutant.file}: ${mutant.what}`)
    t.not(mutant.from, mutant.to, mutant.what)
    t.match(mutant.file, /^(?:plugins|demo)\//, 'of the suite or of the demo')
  }
})

t.test('each kind of finding has a mutation that leads to it, or a reason why none does', async t => {
  const led = new Set(MUTANTS.map(({ expected }) => expected))
  t.strictSame(FINDING_IDS.filter(id => !led.has(id) && NOT_MUTATED[id] === undefined), [], 'add a row to test/testing/mutants, and run npm run mutants -- --write')
  t.strictSame(FINDING_IDS.filter(id => led.has(id) && NOT_MUTATED[id] !== undefined), [], 'no reason where there is one')
  t.ok(MUTANTS.length >= 30)
})

t.test('the score that is kept is that of this table, and none survived', async t => {
  const kept = await readFile(join(ROOT, 'docs/mutants.md'), 'utf8')
  t.strictSame(MUTANTS.map(rowOf).filter(row => !kept.includes(row)), [], 'run npm run mutants -- --write')
  t.match(kept, new RegExp(`\\*\\*${MUTANTS.length} of ${MUTANTS.length} mutations were caught`))
  const [, score = 'none'] = /\*\*(\d+ of \d+ mutations were caught, of \d+ kinds of finding)\*\*/.exec(kept) ?? []
  t.match(await readFile(join(ROOT, 'README.md'), 'utf8'), score, 'README says the same')
})

t.test('two of them, others whenever the kit changes, are made in a copy of this repository, and found', async t => {
  const hash = createHash('sha256')
  const folder = join(ROOT, 'plugins/testing')
  for (const name of (await readdir(folder, { recursive: true })).filter(one => one.endsWith('.ts')).sort()) hash.update(await readFile(join(folder, name)))
  const seed = hash.digest().readUInt32BE()
  const random = randomOf(seed)
  const copy = await Copy.make()
  t.teardown(() => copy.remove())
  for (const on of ['service', 'portal'] as const) {
    const mutant = random.pick(MUTANTS.filter(one => one.on === on))
    const { caught, others, broken } = await copy.try(mutant)
    t.ok(caught.length > 0, `${mutant.expected}: ${mutant.what} (seed ${seed}): ${broken ?? JSON.stringify(others)}`)
  }
})
