/** The data directory: held by one process, and by that one only while it lives. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { lockDirectory, secretOf } from '../../demo/data/directory.js'
import { TYPESCRIPT_BRIEFLY } from '../fixtures/typescript.js'

/** A process that takes the directory, says so, and keeps it until it is killed. */
async function holder (t: Test, directory: string): Promise<{ child: ChildProcess, hasIt: boolean }> {
  const source = `
    import { lockDirectory } from ${JSON.stringify(new URL('../../demo/data/directory.ts', import.meta.url).href)}
    try { lockDirectory(${JSON.stringify(directory)}); console.log('has it'); setInterval(() => {}, 1000) } catch (error) { console.log(error.message) }`
  const child = spawn(process.execPath, [...TYPESCRIPT_BRIEFLY, '--input-type=module', '-e', source], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => child.kill('SIGKILL'))
  const [said] = await once(child.stdout!.setEncoding('utf8'), 'data')
  return { child, hasIt: said === 'has it\n' }
}

t.test('of several that start at once on what a killed one left behind, one has it', async t => {
  const directory = t.testdir({ lock: '999999999 1', database: {} })
  const all = await Promise.all(Array.from({ length: 5 }, () => holder(t, directory)))
  t.equal(all.filter(({ hasIt }) => hasIt).length, 1)
  t.throws(() => lockDirectory(directory), /in use by process \d+\. Stop it, or set DATA_DIR/)
  for (const { child } of all.filter(({ hasIt }) => hasIt)) {
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
  const unlock = lockDirectory(directory)
  t.match(readFileSync(join(directory, 'lock'), 'utf8'), `${process.pid} `)
  unlock()
  t.strictSame(readdirSync(directory), ['database'], 'nothing is left behind')
})

t.test('a lock whose number belongs to another process by now, or which says nothing, holds nothing', async t => {
  for (const lock of [`${process.ppid} 1`, '', 'garbage', '0', '-1', `${process.pid} x`]) {
    const directory = t.testdir({ lock })
    lockDirectory(directory)()
    t.notOk(existsSync(join(directory, 'lock')), JSON.stringify(lock))
  }
})

t.test('only one\'s own lock is given back', async t => {
  const directory = t.testdir({})
  const unlock = lockDirectory(directory)
  writeFileSync(join(directory, 'lock'), '1 1')
  unlock()
  t.ok(existsSync(join(directory, 'lock')))
})

t.test('a new directory and what is made in it are the owner\'s alone', async t => {
  const directory = join(t.testdir({}), 'deep', 'data')
  lockDirectory(directory)
  const secret = secretOf(directory)
  t.equal(statSync(directory).mode & 0o777, 0o700)
  t.equal(statSync(join(directory, 'app-secret')).mode & 0o777, 0o600)
  t.equal(Buffer.from(secret, 'base64url').length, 48)
  t.equal(secretOf(directory), secret, 'made once')
})
