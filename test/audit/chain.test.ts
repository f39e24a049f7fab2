/** The chain: whatever is done to its rows without its keys is told, with its place. */
import { createHash, randomBytes } from 'node:crypto'
import t from 'tap'
import { checkpointText, GENESIS, KeyRing, purgedText, seal, signHead, type Content, type Head, type Row } from '../../plugins/audit/chain.js'
import type { Checkpoint, VerifyOptions } from '../../plugins/audit/contract.js'
import { verifyChain } from '../../plugins/audit/verify.js'

const LENGTH = 1000
const KEY = Buffer.alloc(32, 7)
const ring = new KeyRing([KEY])

interface Chain { rows: Row[], head: Head | null, checkpoints: Checkpoint[] }

function contentOf (i: number): Content {
  return { id: `id-${i}`, time: new Date(1.7e12 + i).toISOString(), type: i % 2 === 0 ? 'data_access' : 'login_success', person: `p_${i % 7}`, subject: i % 3 === 0 ? 'p_x' : null, content: JSON.stringify({ outcome: 'success', i }) }
}

function checkpointOf ({ seq, link }: Pick<Row, 'seq' | 'link'>, by = ring): Checkpoint {
  const time = new Date(1.7e12).toISOString()
  return { seq, link, time, key: by.current, mac: by.mac('checkpoint', checkpointText({ seq, link, time }))! }
}

function chainOf (length: number, by = ring): Chain {
  const { rows, head } = seal(by, { seq: 0, link: GENESIS }, Array.from({ length }, (_none, i) => contentOf(i + 1)))
  return { rows: rows.map(row => ({ ...row, purged: null, mark: null })), head, checkpoints: [] }
}

const whole = chainOf(LENGTH)
/** Where a verification may begin, so that each looks at no more than fifty rows before the place in question. */
const starts = whole.rows.filter(({ seq }) => seq % 50 === 0).map(row => checkpointOf(row))
const before = (place: number): VerifyOptions => ({ since: starts[Math.floor((place - 1) / 50) - 1] })

function verify ({ rows, head, checkpoints }: Chain, options?: VerifyOptions, by = ring, seen: Pick<Head, 'seq' | 'link'> | null = null) {
  const sorted = [...rows].sort((a, b) => a.seq - b.seq)
  return verifyChain({
    ring: by,
    seen,
    source: {
      head: async () => head,
      rows: async (after, to, limit) => {
        let first = 0
        while (first < sorted.length && sorted[first]!.seq <= after) first++
        return sorted.slice(first, first + limit).filter(({ seq }) => seq <= to)
      },
      checkpoints: async (after, limit) => checkpoints.filter(({ seq }) => seq > after).slice(0, limit),
      stranger: async () => null,
    },
  }, options)
}

const rows = () => [...whole.rows]
/** Of the rows from this index on, each stands one place further or nearer. */
const moved = (list: readonly Row[], from: number, by: number) => list.map((row, i) => i >= from ? { ...row, seq: row.seq + by } : row)
const forged = (seq: number): Row => ({ ...whole.rows[0]!, ...contentOf(5000 + seq), seq, digest: randomBytes(32).toString('base64url'), link: randomBytes(32).toString('base64url') })

t.test('a chain that nobody touched is whole, however much of it is read at once', async t => {
  for (const batch of [1, 7, 999, 1000, 5000]) t.match(await verify(whole, { batch }), { whole: true, events: LENGTH, purged: 0, seq: LENGTH, break: null })
  t.match(await verify(whole, { since: starts[3] }), { whole: true, events: LENGTH - 200 })
  t.match(await verify({ rows: [], head: null, checkpoints: [] }), { whole: true, events: 0 })
})

t.test('never more than a batch of it is asked for', async t => {
  let most = 0
  await verifyChain({
    ring,
    seen: null,
    source: {
      head: async () => whole.head,
      rows: async (after, to, limit) => {
        most = Math.max(most, limit)
        return whole.rows.slice(after, Math.min(to, after + limit))
      },
      checkpoints: async () => [],
      stranger: async () => null,
    },
  }, { batch: 10 })
  t.equal(most, 10)
})

const ATTACKS: Record<string, { kind: string | ((place: number) => string), make: (place: number) => Chain, from?: number, to?: number }> = {
  changed: { kind: 'changed', make: place => ({ ...whole, rows: whole.rows.map(row => row.seq === place ? { ...row, content: row.content!.replace('success', 'failure') } : row) }) },
  removed: { kind: place => place === LENGTH ? 'truncated' : 'removed', make: place => ({ ...whole, rows: whole.rows.filter(({ seq }) => seq !== place) }) },
  'removed, with what follows moved up': { kind: place => place === LENGTH ? 'truncated' : 'removed', make: place => ({ ...whole, rows: moved(whole.rows.filter(({ seq }) => seq !== place), place - 1, -1) }) },
  'inserted, with what follows moved on': { kind: 'inserted', make: place => ({ ...whole, rows: [...moved(whole.rows, place - 1, 1), forged(place)] }) },
  'inserted, a copy of another': { kind: 'inserted', make: place => ({ ...whole, rows: [...moved(whole.rows, place - 1, 1), { ...whole.rows[(place + 500) % LENGTH]!, seq: place }] }) },
  'swapped with the next': { kind: 'reordered', to: LENGTH - 1, make: place => ({ ...whole, rows: whole.rows.map(row => row.seq === place ? { ...row, seq: place + 1 } : row.seq === place + 1 ? { ...row, seq: place } : row) }) },
  'swapped with one far away': { kind: 'reordered', to: LENGTH - 3, make: place => ({ ...whole, rows: whole.rows.map(row => row.seq === place ? { ...row, seq: LENGTH } : row.seq === LENGTH ? { ...row, seq: place } : row) }) },
  'cut off': { kind: 'truncated', make: place => ({ ...whole, rows: whole.rows.filter(({ seq }) => seq < place) }) },
  'cut off, with the head set to what is left': { kind: () => 'changed', from: 2, make: place => ({ ...whole, rows: whole.rows.filter(({ seq }) => seq < place), head: { ...whole.head!, seq: place - 1, link: whole.rows[place - 2]!.link } }) },
  'emptied, and not by retention': { kind: 'removed', make: place => ({ ...whole, rows: whole.rows.map(row => row.seq === place ? { ...row, id: null, time: null, type: null, person: null, subject: null, content: null } : row) }) },
}

for (const [what, { kind, make, from = 1, to = LENGTH }] of Object.entries(ATTACKS)) {
  t.test(`a row ${what}: at every place of ${LENGTH} it is told, with the place [ASVS 16.4.2]`, async t => {
    const wrong: unknown[] = []
    for (let place = from; place <= to; place++) {
      const verdict = await verify(make(place), before(place))
      const expected = typeof kind === 'string' ? kind : kind(place)
      const seq = what.startsWith('cut off, with') ? place - 1 : place
      if (verdict.whole || verdict.break?.seq !== seq || verdict.break.kind !== expected) wrong.push({ place, ...verdict.break })
    }
    t.same(wrong, [])
    for (const place of [from, 500, to]) t.equal((await verify(make(place))).whole, false, 'from the beginning too')
  })
}

t.test('one byte in any column: told at every place', async t => {
  const columns = ['id', 'time', 'type', 'person', 'content', 'key', 'digest', 'link'] as const
  const wrong: unknown[] = []
  const look = async (place: number, column: string, value: unknown) => {
    const verdict = await verify({ ...whole, rows: whole.rows.map(row => row.seq === place ? { ...row, [column]: value } : row) }, before(place))
    if (verdict.break?.seq !== place || verdict.break.kind !== 'changed') wrong.push({ place, column, ...verdict.break })
  }
  const flipped = (text: string, at: number) => text.slice(0, at) + String.fromCharCode(text.charCodeAt(at) ^ 1) + text.slice(at + 1)
  for (let place = 1; place <= LENGTH; place++) {
    const column = columns[place % columns.length]!
    const text = whole.rows[place - 1]![column]!
    await look(place, column, flipped(text, place % text.length))
  }
  for (const place of [1, 333, LENGTH]) {
    for (const column of columns) {
      const text = whole.rows[place - 1]![column]!
      for (let at = 0; at < text.length; at++) await look(place, column, flipped(text, at))
    }
    for (const column of ['subject', 'purged', 'mark']) await look(place, column, 'x')
    for (const column of ['person', 'id']) for (const value of ['', null]) await look(place, column, value)
  }
  await look(1, 'subject', '')
  await look(3, 'subject', null)
  t.same(wrong, [])
})

t.test('columns do not run into each other: moving a sign from one to the next is a change', async t => {
  const { id, time } = whole.rows[9]!
  t.match(await verify({ ...whole, rows: whole.rows.map(row => row.seq === 10 ? { ...row, id: id!.slice(0, -1), time: id!.at(-1)! + time! } : row) }), { break: { seq: 10, kind: 'changed' } })
})

t.test('the head: changed, gone, set back, or with rows beyond it', async t => {
  for (const name of ['seq', 'link', 'key', 'mac'] as const) {
    const head = { ...whole.head!, [name]: name === 'seq' ? LENGTH + 1 : `x${whole.head![name]}` }
    t.equal((await verify({ ...whole, head })).whole, false, name)
  }
  t.match(await verify({ ...whole, head: null }), { break: { kind: 'truncated', seq: 1 } })
  t.match(await verify({ ...whole, rows: [...whole.rows, forged(LENGTH + 1)] }), { break: { kind: 'inserted', seq: LENGTH + 1 } })
  const early = chainOf(500)
  const setBack = { ...early, rows: rows().slice(0, 500) }
  t.match(await verify(setBack), { whole: true }, 'an older head was signed too')
  t.match(await verify(setBack, {}, ring, whole.head), { break: { kind: 'truncated', seq: 501 } }, 'a process that has seen a later one knows')
  t.match(await verify(setBack, { checkpoints: [checkpointOf(whole.rows[599]!)] }), { break: { kind: 'truncated', seq: 501 } }, 'and whoever kept a checkpoint elsewhere')
  t.match(await verify({ ...setBack, checkpoints: [checkpointOf(whole.rows[599]!)] }), { break: { kind: 'truncated', seq: 501 } }, 'and the table of checkpoints, where it was forgotten')
  t.match(await verify({ rows: [], head: null, checkpoints: [] }, {}, ring, whole.head), { break: { kind: 'truncated' } }, 'all of it gone')
})

t.test('checkpoints of the table are checked against the chain', async t => {
  const good = checkpointOf(whole.rows[299]!)
  t.match(await verify({ ...whole, checkpoints: [good] }), { whole: true })
  t.match(await verify({ ...whole, checkpoints: [{ ...good, link: whole.rows[300]!.link }] }), { break: { seq: 300, kind: 'changed' } })
  t.match(await verify(whole, { checkpoints: [good] }), { whole: true })
  t.match(await verify(whole, { checkpoints: [{ ...good, link: 'x' }] }), { break: { seq: 300, kind: 'changed' } })
  t.match(await verify(whole, { since: { ...good, link: whole.rows[300]!.link } }), { whole: false }, 'nor can one begin at a forged one')
})

t.test('what retention emptied keeps its place; its mark is good for that place, and for nothing else', async t => {
  const purged = new Date(1.8e12).toISOString()
  const emptied = (place: number, by = ring) => {
    const { digest } = whole.rows[place - 1]!
    return { id: null, time: null, type: null, person: null, subject: null, content: null, purged, mark: `${by.current}:${by.mac('purged', purgedText(place, digest, purged))!}` }
  }
  const chain = (change: (row: Row) => Partial<Row>) => ({ ...whole, rows: whole.rows.map(row => ({ ...row, ...change(row) })) })
  t.match(await verify(chain(({ seq }) => seq % 3 === 0 ? emptied(seq) : {})), { whole: true, purged: 333 })
  t.match(await verify(chain(() => ({ ...emptied(1) }))), { break: { seq: 2 } }, 'the mark of another')
  t.match(await verify(chain(({ seq }) => seq === 4 ? emptied(4, new KeyRing([randomBytes(32)])) : {})), { break: { seq: 4 } }, 'a mark by another key')
  t.match(await verify(chain(({ seq }) => seq === 4 ? { ...emptied(4), purged: new Date(1.9e12).toISOString() } : {})), { break: { seq: 4 } })
  t.match(await verify(chain(({ seq }) => seq === 4 ? { ...emptied(4), content: '{}' } : {})), { break: { seq: 4, kind: 'changed' } })
  const all = chain(({ seq }) => emptied(seq))
  t.match(await verify({ ...all, rows: all.rows.map(row => row.seq === 8 ? { ...row, seq: 9 } : row.seq === 9 ? { ...row, seq: 8 } : row) }), { break: { seq: 8, kind: 'reordered' } })
})

t.test('keys: a chain goes on under a new one, and is whole for whoever has both', async t => {
  const [old, both] = [chainOf(10), new KeyRing([randomBytes(32), KEY])]
  const { rows: more, head } = seal(both, old.head!, [contentOf(11), contentOf(12)])
  const chain = { rows: [...old.rows, ...more.map(row => ({ ...row, purged: null, mark: null }))], head, checkpoints: [] }
  t.match(await verify(chain, {}, both), { whole: true, events: 12 })
  t.match(await verify(chain), { break: { seq: 11 } })
})

t.test('negative control: a chain of plain hashes that an attacker computes anew passes its own verification; ours does not', async t => {
  /** The form that is often shown: each row carries the SHA-256 of itself and of the one before. */
  const hash = (text: string) => createHash('sha256').update(text).digest('base64url')
  const plain = (contents: readonly Content[]) => {
    let link = GENESIS
    return contents.map((content, i) => {
      link = hash(`${link}${JSON.stringify(content)}`)
      return { ...content, seq: i + 1, link }
    })
  }
  const passes = (list: ReturnType<typeof plain>) => {
    let before = GENESIS
    return list.every(({ seq: _seq, link, ...content }) => {
      before = hash(`${before}${JSON.stringify(content)}`)
      return link === before
    })
  }
  const contents = Array.from({ length: 50 }, (_none, i) => contentOf(i + 1))
  const tampered = contents.map((content, i) => i === 20 ? { ...content, content: '{"outcome":"failure"}' } : content)
  t.ok(passes(plain(contents)))
  t.notOk(passes(plain(contents).map((row, i) => ({ ...row, ...tampered[i]! }))))
  t.ok(passes(plain(tampered)), 'computed anew it looks whole')
  for (const by of [new KeyRing([Buffer.alloc(32)]), new KeyRing([randomBytes(32)])]) {
    const { rows } = seal(by, { seq: 0, link: GENESIS }, tampered)
    const full = rows.map(row => ({ ...row, purged: null, mark: null }))
    const own = chainOf(50)
    t.match(await verify({ rows: full, head: own.head, checkpoints: [] }), { break: { seq: 1 } })
    t.match(await verify({ rows: full.map(row => ({ ...row, key: ring.current })), head: { ...signHead(by, 50, full.at(-1)!.link), key: ring.current }, checkpoints: [] }), { whole: false })
    t.match(await verify({ rows: [...own.rows.slice(0, 20), ...full.slice(20)], head: own.head, checkpoints: [] }), { break: { seq: 21 } })
  }
})
