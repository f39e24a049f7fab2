/** Values, claims, compare-and-swap and tallies. What has to be alive lives for a minute, what has to be over for 150 ms. */
import type { Test } from 'tap'
import type { Opened } from './contract.js'

const LONG = 60_000
const SHORT = 150
const LATER = 200

export async function holdsValues (t: Test, begin: (t: Test) => Promise<Opened>): Promise<void> {
  t.test('values live until their time is over', async t => {
    const { state, elapse } = await begin(t)
    t.equal(await state.answers(), true)
    t.equal(await state.get('c:k'), null)
    await state.set('c:k', 'v', LONG)
    t.equal(await state.get('c:k'), 'v')
    t.same(await state.getMany(['c:k', 'c:other', 'c:k']), ['v', null, 'v'])
    t.same(await state.getMany([]), [])
    await state.set('c:empty', '', LONG)
    t.equal(await state.get('c:empty'), '', 'an empty text is a value')
    await state.set('c:ends', 'v', SHORT)
    await state.set('c:pinned ends', 'v', SHORT, true)
    await state.set('c:prolonged', 'v', SHORT)
    await state.set('c:prolonged', 'w', LONG)
    await state.set('c:cut short', 'v', LONG)
    await state.set('c:cut short', 'w', SHORT)
    await elapse(LATER)
    t.same(await state.getMany(['c:k', 'c:ends', 'c:pinned ends', 'c:prolonged', 'c:cut short']), ['v', null, null, 'w', null])
    await state.delete('c:k')
    await state.delete('c:unknown')
    t.equal(await state.get('c:k'), null)
  })

  t.test('keys and values are taken as they are', async t => {
    const { state } = await begin(t)
    const texts = ['c:a', 'c:a ', 'c:A', 'c:{a}', 'c:a:b', 'c:ä', 'c:\u0000', 'c:*', `c:${'long'.repeat(500)}`]
    for (const text of texts) await state.set(text, `${text}\r\n${text}`, LONG)
    for (const text of texts) t.equal(await state.get(text), `${text}\r\n${text}`)
    t.equal(await state.get('d:a'), null)
  })

  t.test('a key that is set as pinned, then as forgettable, is one key', async t => {
    const { state } = await begin(t)
    await state.set('c:k', 'loose', LONG)
    await state.set('c:k', 'pinned', LONG, true)
    t.equal(await state.get('c:k'), 'pinned')
    await state.set('c:k', 'loose again', LONG)
    t.equal(await state.get('c:k'), 'loose again')
    await state.delete('c:k')
    t.equal(await state.get('c:k'), null)
  })

  t.test('a claim is won by exactly one of two hundred', async t => {
    const { state, elapse } = await begin(t)
    const won = await Promise.all(Array.from({ length: 200 }, async (_, i) => state.claim('c:code', String(i), LONG)))
    t.equal(won.filter(Boolean).length, 1)
    t.equal(await state.get('c:code'), String(won.indexOf(true)))
    await state.set('c:set', 'v', LONG)
    t.equal(await state.claim('c:set', 'w', LONG), false, 'what was set is taken too')
    t.equal(await state.claim('c:short', 'v', SHORT), true)
    await elapse(LATER)
    t.equal(await state.claim('c:short', 'again', LONG), true, 'after its time it is free')
    t.equal(await state.claim('c:short', 'and again', LONG), false)
    await state.delete('c:short')
    t.equal(await state.claim('c:short', 'once deleted', LONG), true)
  })

  t.test('a swap is won by exactly one of two hundred, and says why the others lost', async t => {
    const { state, elapse } = await begin(t)
    t.equal(await state.swap('c:family', 'a', 'b', LONG), 'missing')
    t.equal(await state.get('c:family'), null, 'a swap never creates')
    await state.set('c:family', 'a', LONG)
    const outcomes = await Promise.all(Array.from({ length: 200 }, async (_, i) => state.swap('c:family', 'a', `b${i}`, LONG)))
    t.equal(outcomes.filter(outcome => outcome === 'swapped').length, 1)
    t.equal(outcomes.filter(outcome => outcome === 'mismatch').length, 199)
    t.equal(await state.get('c:family'), `b${outcomes.indexOf('swapped')}`)
    await state.set('c:family', 'a', LONG, true)
    t.equal(await state.swap('c:family', 'a', 'b', SHORT), 'swapped', 'pinned values too')
    await elapse(LATER)
    t.equal(await state.swap('c:family', 'b', 'c', LONG), 'missing', 'what has expired is not revived (GHSA-pj27-2xvp-4qxg)')
    t.equal(await state.get('c:family'), null)
  })

  t.test('raise never falls back and never answers the same twice', async t => {
    const { state, elapse } = await begin(t)
    t.equal(await state.raise('c:g', 1000, LONG), 1000)
    t.equal(await state.raise('c:g', 1000, LONG), 1001)
    t.equal(await state.raise('c:g', 500, LONG), 1002, 'a lower floor does not lower it')
    t.equal(await state.raise('c:g', 5000, LONG), 5000)
    t.equal(await state.get('c:g'), '5000')
    const time = 1_700_000_000_000_000
    t.equal(await state.raise('c:g', time, LONG), time)
    t.equal(await state.raise('c:g', 1, LONG), time + 1, 'large numbers stay exact')
    t.equal(await state.get('c:g'), String(time + 1))
    await state.set('c:set', '7', LONG)
    t.equal(await state.raise('c:set', 5, LONG), 8, 'a number that was set goes on')
    const raised = await Promise.all(Array.from({ length: 100 }, async () => state.raise('c:many', 10, LONG)))
    t.equal(new Set(raised).size, 100)
    await state.raise('c:g', 1, SHORT)
    await elapse(LATER)
    t.equal(await state.raise('c:g', 1, LONG), 1)
  })

  t.test('add counts from the first change on, never below 0, and forgets what came to 0', async t => {
    const { state, elapse } = await begin(t)
    const first = await state.add('c:n', 1, SHORT)
    t.equal(first.count, 1)
    t.ok(first.ttlMs > 0 && first.ttlMs <= SHORT)
    const second = await state.add('c:n', 2, LONG)
    t.equal(second.count, 3)
    t.ok(second.ttlMs > 0 && second.ttlMs <= SHORT, 'later changes do not prolong it')
    await elapse(LATER)
    t.match(await state.add('c:n', 1, LONG), { count: 1 })
    t.match(await state.add('c:n', -5, LONG), { count: 0, ttlMs: LONG })
    t.match(await state.add('c:n', -1, LONG), { count: 0 }, 'a refund of what is gone leaves nothing')
    t.match(await state.add('c:n', 4, LONG), { count: 4, ttlMs: LONG }, 'the next one begins anew')
    t.equal((await state.add('c:n', 0, LONG)).count, 4)
    await state.delete('c:n')
    t.match(await state.add('c:n', 1, LONG), { count: 1 })
    await state.add('c:many', 50, LONG) // so that in whatever order they come none meets 0
    await Promise.all(Array.from({ length: 100 }, async (_, i) => state.add('c:many', i % 2 === 0 ? 3 : -1, LONG)))
    t.equal((await state.add('c:many', 0, LONG)).count, 150)
  })

  t.test('join counts different members up to a maximum, leave takes one out', async t => {
    const { state, elapse } = await begin(t)
    t.equal(await state.join('c:s', 'a', 3, LONG), 1)
    t.equal(await state.join('c:s', 'a', 3, LONG), 1)
    t.equal(await state.join('c:s', 'b', 3, LONG), 2)
    t.equal(await state.join('c:s', 'c', 3, LONG), 3)
    t.equal(await state.join('c:s', 'd', 3, LONG), 3, 'it grows no further')
    await state.leave('c:s', 'd')
    t.equal(await state.join('c:s', 'a', 3, LONG), 3)
    await state.leave('c:s', 'a')
    t.equal(await state.join('c:s', 'b', 3, LONG), 2)
    await state.leave('c:unknown', 'z')
    t.equal(await state.join('c:short', 'a', 3, SHORT), 1)
    await state.join('c:short', 'b', 3, LONG)
    await elapse(LATER)
    t.equal(await state.join('c:short', 'z', 3, LONG), 1, 'it lives from its first member on')
    await state.leave('c:short', 'z')
    t.equal(await state.join('c:short', 'y', 3, LONG), 1)
  })

  t.test('tallies are kept apart from values', async t => {
    const { state } = await begin(t)
    await state.add('c:n', 1, LONG)
    await state.join('c:s', 'a', 3, LONG)
    t.same(await state.getMany(['c:n', 'c:s']), [null, null])
    await state.set('c:n', 'value', LONG)
    t.equal((await state.add('c:n', 1, LONG)).count, 2)
    t.equal(await state.get('c:n'), 'value')
    await state.delete('c:n')
    t.equal((await state.add('c:n', 1, LONG)).count, 1, 'delete forgets both')
  })

  t.test('mistakes of the programmer are TypeErrors, not silent nonsense', async t => {
    const { state } = await begin(t)
    await state.add('c:n', 1, LONG)
    await state.join('c:s', 'a', 3, LONG)
    await state.set('c:text', 'x', LONG)
    await t.rejects(async () => state.raise('c:text', 1, LONG), { name: 'TypeError' })
    await t.rejects(async () => state.join('c:n', 'a', 3, LONG), { name: 'TypeError' })
    await t.rejects(async () => state.add('c:s', 1, LONG), { name: 'TypeError' })
    for (const ttl of [0, -1, NaN]) {
      const wrong = { name: 'TypeError', message: /time to live/ }
      await t.rejects(async () => state.claim('c:c', 'v', ttl), wrong, `a claim for ${ttl} ms would be everybody's`)
      await t.rejects(async () => state.set('c:c', 'v', ttl), wrong)
      await t.rejects(async () => state.raise('c:c', 1, ttl), wrong)
      await t.rejects(async () => state.add('c:c', 1, ttl), wrong)
      await t.rejects(async () => state.join('c:c', 'm', 3, ttl), wrong)
    }
    t.equal(await state.answers(), true, 'and say nothing about the store')
  })
}
