/** Four processes and one Redis: every decision is made once. */
import t from 'tap'
import { processes } from '../fixtures/processes.js'
import { redis } from '../services.js'

const REQUESTS = 10_000
const LIMIT = 1000

const value = (text: string) => JSON.stringify({ value: text })

const server = await redis(t)
/** Starting four takes seconds: nothing that is asked of them here is in another test's way. */
const service = server === null ? null : await processes(t, server.url)

t.test('of 10,000 requests to four processes at a limit of 1,000 exactly 1,000 pass, by each algorithm [ASVS 2.4.1]', async t => {
  if (service === null) return
  const { call } = service
  for (const algorithm of ['fixed', 'sliding', 'log', 'bucket']) {
    const began = performance.now()
    const statuses = (await Promise.all(Array.from({ length: REQUESTS }, () => call(`/${algorithm}`)))).map(({ status }) => status)
    const seconds = (performance.now() - began) / 1000
    const passed = statuses.filter(status => status === 200).length
    t.equal(passed + statuses.filter(status => status === 429).length, REQUESTS, `${algorithm}: nothing but 200 and 429`)
    // The bucket fills while it is emptied: ten a second.
    if (algorithm === 'bucket') t.ok(passed >= LIMIT && passed <= LIMIT + seconds * 10, `bucket: ${passed} of ${REQUESTS} in ${seconds.toFixed(2)} s`)
    else t.equal(passed, LIMIT, algorithm)
  }
})

t.test('negative control: four processes that do not share let four times the limit through', async t => {
  if (server === null) return
  const apart = await Promise.all(Array.from({ length: 4 }, () => processes(t, server.url, 1))) // a prefix each
  const calls = Array.from({ length: 6000 }, (_call, i) => apart[i % 4]!.call('/fixed'))
  t.equal((await Promise.all(calls)).filter(({ status }) => status === 200).length, 4 * LIMIT)
})

t.test('of two hundred parallel refreshes of one token over four processes one gives a pair, and the others were reuse [ASVS 10.4.5]', async t => {
  if (service === null) return
  const { call } = service
  const issued = JSON.parse(JSON.parse((await call('/issue', { body: value('ada') })).body).value)
  const answers = await Promise.all(Array.from({ length: 200 }, () => call('/refresh', { body: value(issued.refresh_token) })))
  const pairs = answers.filter(({ status }) => status === 200)
  t.equal(pairs.length, 1)
  t.equal(answers.filter(({ status }) => status === 401).length, 199)
  const { access_token: token, refresh_token: next } = JSON.parse(JSON.parse(pairs[0]!.body).value)
  for (let process = 0; process < 4; process++) {
    t.equal((await call('/whole', { token, process })).status, 401, `process ${process} knows that the family is dead`)
    t.equal((await call('/whole', { token: issued.access_token, process })).status, 401)
  }
  t.equal((await call('/refresh', { body: value(next) })).status, 401)
})

t.test('a code is claimed once by four processes', async t => {
  if (service === null) return
  const { call } = service
  for (const code of ['totp:ada:123456', 'reset:9f2c']) {
    const answers = await Promise.all(Array.from({ length: 200 }, () => call('/claim', { body: value(code) })))
    t.equal(answers.filter(({ body }) => JSON.parse(body).value === 'true').length, 1, code)
  }
})

t.test('what one process revokes or locks, all refuse; what one issues, all accept', async t => {
  if (service === null) return
  const { call } = service
  const { access_token: token, refresh_token: refresh } = JSON.parse(JSON.parse((await call('/issue', { body: value('bob'), process: 0 })).body).value)
  for (let process = 0; process < 4; process++) t.equal((await call('/whole', { token, process })).status, 200)
  await call('/refresh', { body: value(refresh), process: 1 })
  t.equal((await call('/refresh', { body: value(refresh), process: 2 })).status, 401, 'spent at another one')
  for (let process = 0; process < 4; process++) t.equal((await call('/whole', { token, process })).status, 401)
})
