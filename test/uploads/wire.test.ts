/** Uploads over real sockets: cut off, slow, endless, many at once; and what a process that was killed leaves behind. */
import { spawn } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, utimesSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { join } from 'node:path'
import multipart from '@fastify/multipart'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import { TYPESCRIPT } from '../fixtures/typescript.js'
import { build, CODES, dial, folderOf, headOf, MIB, until } from './build.js'
import { formOf, pdf, picture } from './forms.js'

t.test('a Content-Length of 10 GB is refused at once, and nothing of it is read [TRAP 17] [ASVS 5.2.1]', async t => {
  const { port, stored, handled } = await build(t)
  const since = performance.now()
  const { socket, answer } = await dial(t, await port())
  socket.write(headOf('/image', 'multipart/form-data; boundary=b', 10_000_000_000))
  const text = await answer
  t.match(text, /^HTTP\/1\.1 413 /)
  t.match(text, CODES.tooLarge)
  t.match(text, /connection: close/i)
  t.ok(performance.now() - since < 1000, `${Math.round(performance.now() - since)} ms`)
  t.strictSame(stored(), [])
  t.equal(handled(), 0)
})

t.test('a body without a length is cut at the limit of the file, and one that never comes to a file at that of the form', async t => {
  const { port, stored } = await build(t, {}, { '/document': { kinds: ['pdf'], maxBytes: 100_000 } })
  for (const start of [`--b\r\nContent-Disposition: form-data; name="file"; filename="a.pdf"\r\nContent-Type: application/pdf\r\n\r\n${pdf().toString('latin1')}`, 'a preamble that has no end', '--b\r\nContent-Disposition: form-data; name="file"; filename="a.php"\r\n\r\n']) {
    const { socket, answer } = await dial(t, await port())
    socket.write(headOf('/document', 'multipart/form-data; boundary=b', null))
    const chunk = (data: Buffer) => socket.write(Buffer.concat([Buffer.from(`${data.length.toString(16)}\r\n`), data, Buffer.from('\r\n')]))
    chunk(Buffer.from(start, 'latin1'))
    let sent = 0
    const timer = setInterval(() => { if (!socket.destroyed && sent < 200 * MIB && socket.writableLength < MIB) { chunk(Buffer.alloc(65_536)); sent += 65_536 } }, 1)
    const text = await answer
    clearInterval(timer)
    t.match(text, /^HTTP\/1\.1 4(?:13|15) /, start.slice(0, 20))
    t.ok(sent < 50 * MIB, `${sent} bytes`)
    t.ok(await until(() => stored().length === 0))
  }
})

t.test('cut off at every stage, an upload leaves an empty folder [TRAP 17]', async t => {
  const { port, stored, handled, app } = await build(t)
  const content = await picture('png', 300, 300)
  const { body, type } = formOf([{ filename: 'a.png', type: 'image/png', content }], { boundary: 'bbb' })
  const head = headOf('/image', type, body.length)
  const stages = [0, 1, 10, 40, 60, 90, 120, 150, 200, 1000, 65_536, 100_000, body.length - 200, body.length - 20, body.length - 5, body.length - 2, body.length - 1]
  for (const how of ['destroy', 'resetAndDestroy', 'end'] as const) {
    for (const stage of stages) {
      const { socket, answer } = await dial(t, await port())
      socket.write(Buffer.concat([Buffer.from(head), body.subarray(0, stage)]))
      await new Promise(resolve => { setTimeout(resolve, 5) })
      socket[how]()
      await answer
    }
  }
  t.ok(await until(() => stored().length === 0), `${stored().length} left`)
  t.equal(handled(), 0)
  const whole = await app.inject({ method: 'POST', url: 'http://localhost/image', headers: { 'content-type': type, 'x-user': 'ada' }, payload: body })
  t.equal(whole.statusCode, 201, 'the control: all of it is taken')
  t.equal(stored().length, 1)
})

t.test('the control: the official plugin, as it is documented for files on disk, leaves what was cut off', async t => {
  const folder = folderOf(t)
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(multipart)
  const { createWriteStream } = await import('node:fs')
  const { pipeline } = await import('node:stream/promises')
  app.post('/', async request => {
    const data = await request.file()
    await pipeline(data!.file, createWriteStream(join(folder, data!.filename)))
    return 'ok'
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  const { body, type } = formOf([{ filename: 'a.png', type: 'image/png', content: await picture('png', 300, 300) }])
  const { socket, answer } = await dial(t, (app.server.address() as { port: number }).port)
  socket.write(Buffer.concat([Buffer.from(headOf('/', type, body.length)), body.subarray(0, 100_000)]))
  await until(() => readdirSync(folder).length === 1)
  socket.destroy()
  await answer
  await new Promise(resolve => { setTimeout(resolve, 100) })
  t.strictSame(readdirSync(folder), ['a.png'])
})

t.test('an upload that stands still, and one that takes too long, are a 408, and the connection ends', async t => {
  const { port, stored } = await build(t, { idleMs: 150, timeoutMs: 600 })
  const { body, type } = formOf([{ filename: 'a.png', type: 'image/png', content: await picture('png', 300, 300) }])
  for (const stage of [0, 30, 100, 100_000]) {
    const since = performance.now()
    const { socket, answer } = await dial(t, await port())
    socket.write(Buffer.concat([Buffer.from(headOf('/image', type, body.length)), body.subarray(0, stage)]))
    const text = await answer
    t.match(text, /^HTTP\/1\.1 408 /, `still after ${stage} bytes`)
    t.match(text, CODES.timeout)
    t.ok(performance.now() - since < 1500)
  }
  const since = performance.now()
  const { socket, answer } = await dial(t, await port())
  socket.write(Buffer.concat([Buffer.from(headOf('/image', type, body.length)), body.subarray(0, 200)]))
  let at = 200
  const drip = setInterval(() => { if (!socket.destroyed) socket.write(body.subarray(at, ++at)) }, 20)
  const text = await answer
  clearInterval(drip)
  t.match(text, /^HTTP\/1\.1 408 /, 'a byte now and then')
  t.ok(performance.now() - since < 2000)
  t.ok(await until(() => stored().length === 0))
})

t.test('who is refused for what he sends reads why, however much of it is still on its way', async t => {
  const { port } = await build(t)
  const { body, type } = formOf([{ filename: 'a.php', type: 'image/png', content: Buffer.alloc(4 * MIB) }])
  for (let i = 0; i < 5; i++) {
    const answer = await fetch(`http://127.0.0.1:${await port()}/image`, { method: 'POST', headers: { 'content-type': type, 'x-user': 'ada', host: 'localhost' }, body: body as never })
    t.equal(answer.status, 415)
    t.match(await answer.json(), { code: CODES.type })
  }
})

t.test('at start-up what processes that ended left behind is gone, and what others are at is not', async t => {
  const folder = folderOf(t)
  mkdirSync(folder, { recursive: true })
  const machine = Buffer.from(hostname()).toString('hex').slice(0, 32)
  const draft = (host: string, pid: number, n: number) => `.draft-${host}-${pid}-${String(n).repeat(32)}`
  const old = new Date(Date.now() - 48 * 3_600_000)
  const child = spawn(process.execPath, ['-e', 'setTimeout(() => {}, 60000)'])
  t.teardown(() => child.kill('SIGKILL'))
  const names = { dead: draft(machine, 4_194_304, 1), same: draft(machine, process.pid, 2), alive: draft(machine, child.pid!, 3), elsewhere: draft('abcd', 1, 4), forgotten: draft('abcd', 1, 5) }
  for (const name of [...Object.values(names), 'a.txt', `${'a'.repeat(32)}.png`]) writeFileSync(join(folder, name), 'x')
  utimesSync(join(folder, names.forgotten), old, old)
  await build(t, { storage: undefined, folder })
  t.strictSame(readdirSync(folder).sort(), [names.alive, names.elsewhere, 'a.txt', `${'a'.repeat(32)}.png`].sort())
})

t.test('a process that is killed in the middle leaves nothing to the next one', async t => {
  const folder = folderOf(t)
  const service = await started(t, folder)
  const { body, type } = formOf([{ filename: 'a.pdf', type: 'application/pdf', content: Buffer.concat([pdf(), Buffer.alloc(MIB)]) }])
  const { socket } = await dial(t, service.port)
  socket.write(Buffer.concat([Buffer.from(headOf('/document', type, body.length)), body.subarray(0, 500_000)]))
  t.ok(await until(() => readdirSync(folder).some(name => name.startsWith('.draft-'))), 'it is under way')
  service.child.kill('SIGKILL')
  await new Promise(resolve => { service.child.once('exit', resolve) })
  t.equal(readdirSync(folder).length, 1, 'the control: the draft is still there')
  await started(t, folder)
  t.strictSame(readdirSync(folder), [])
})

t.test('200 uploads of 5 MiB at once keep the memory of the process below 250 MiB more than it had [ASVS 5.2.1]', { timeout: 120_000 }, async t => {
  const folder = folderOf(t)
  const { port, child, rss } = await started(t, folder)
  const content = pdf({ objects: [`(${'x'.repeat(5 * MIB - 1000)})`] })
  const { body, type } = formOf([{ filename: 'a.pdf', type: 'application/pdf', content }])
  const send = async () => {
    const answer = await fetch(`http://127.0.0.1:${port}/document`, { method: 'POST', headers: { 'content-type': type, host: 'localhost' }, body: body as never })
    await answer.arrayBuffer()
    return answer.status
  }
  t.equal(await send(), 201, 'warm')
  const before = rss()
  let peak = 0
  const watch = setInterval(() => { peak = Math.max(peak, rss()) }, 20)
  const since = performance.now()
  const statuses = await Promise.all(Array.from({ length: 200 }, send))
  clearInterval(watch)
  t.strictSame([...new Set(statuses)], [201])
  t.equal(readdirSync(folder).length, 201)
  const grown = Math.round((peak - before) / MIB)
  t.ok(grown < 250, `${grown} MiB more, over ${Math.round(before / MIB)} MiB, in ${Math.round(performance.now() - since)} ms`)
  t.comment(`RSS ${Math.round(before / MIB)} MiB, ${grown} MiB more at its peak, 200 × 5 MiB in ${Math.round(performance.now() - since)} ms`)
  child.kill('SIGKILL')
})

/** A service in a process of its own. */
async function started (t: Test, folder: string) {
  const child = spawn(process.execPath, [...TYPESCRIPT, 'test/uploads/service.ts', folder], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => child.kill('SIGKILL'))
  const port = await new Promise<number>(resolve => { child.stdout.on('data', data => resolve(Number(String(data).trim()))) })
  /** Bytes of memory that it holds (Linux). */
  const rss = () => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8'))?.[1] ?? 0) * 1024
  return { child, port, rss }
}
