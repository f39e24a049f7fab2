/**
 * `npm run screenshots`: pictures of the pages for README, `docs/screenshots/<name>.png`, taken of a portal of its own. Names after it take
 * only those: `npm run screenshots -- lab posture`. A chromium has to be on the machine.
 */
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { chromium, type Page } from 'playwright-core'
import sharp from 'sharp'
import { startProgram } from './lab/program.js'

interface Shot {
  /** Of the file. */
  name: string
  /** Who is signed in; nobody without one. */
  as?: 'alice' | 'admin'
  /** The page, as it is in the address. */
  hash: string
  /** What is done in it before. */
  prepare?: (page: Page) => Promise<void>
}

const SHOTS: readonly Shot[] = [
  { name: 'sign-in', hash: '' },
  { name: 'profile', as: 'alice', hash: 'profile' },
  { name: 'security', as: 'alice', hash: 'security' },
  { name: 'keys', as: 'alice', hash: 'keys', prepare: makeKey },
  { name: 'posts', as: 'alice', hash: 'posts' },
  { name: 'documents', as: 'alice', hash: 'documents' },
  { name: 'files', as: 'alice', hash: 'files' },
  { name: 'privacy', as: 'alice', hash: 'privacy' },
  { name: 'lab', as: 'admin', hash: 'lab', prepare: runAttacks },
  { name: 'lab-attack', as: 'admin', hash: 'lab', prepare: openAttack },
  { name: 'audit', as: 'admin', hash: 'audit', prepare: page => page.getByText('live', { exact: true }).waitFor() },
  { name: 'posture', as: 'admin', hash: 'posture' },
  { name: 'limits', as: 'admin', hash: 'limits', prepare: sendBurst },
  { name: 'users', as: 'admin', hash: 'users' },
]
const SIZE = { width: 1280, height: 800 }
/** Milliseconds for a step: the lab starts two servers, and runs all of its attacks. */
const PATIENCE = 300_000
const FOLDER = fileURLToPath(new URL('../docs/screenshots/', import.meta.url))

async function makeKey (page: Page): Promise<void> {
  await page.getByLabel('Name of the program').fill('Backup of the night')
  await page.getByLabel('data:read').check()
  await page.getByRole('button', { name: 'Make the key' }).click()
  await page.getByRole('button', { name: 'I have kept it' }).click()
}

async function runAttacks (page: Page): Promise<void> {
  await page.getByRole('button', { name: /^Run all/ }).click()
  await page.getByText(/^(\d+) of \1 run: \1 succeed on the twin/).waitFor()
}

async function openAttack (page: Page): Promise<void> {
  const row = page.locator('tr[id^=attack-]').first()
  await row.getByRole('button', { name: /^Run:/ }).click()
  await page.getByText(/on the twin it succeeds/).waitFor()
  await row.getByRole('button').first().click()
  await row.evaluate(element => { (element as unknown as { scrollIntoView: () => void }).scrollIntoView() })
}

async function sendBurst (page: Page): Promise<void> {
  await page.getByRole('button', { name: 'Start' }).click()
  await page.getByText('The burst is over').waitFor()
}

const asked = process.argv.slice(2)
const shots = SHOTS.filter(({ name }) => asked.length === 0 || asked.includes(name))
const executablePath = ['chromium', 'chromium-browser', 'google-chrome'].flatMap(name => (process.env.PATH ?? '').split(delimiter).map(folder => join(folder, name))).find(path => existsSync(path))
if (executablePath === undefined) throw new Error('a chromium is needed: `apt-get install chromium`')
const data = mkdtempSync(join(tmpdir(), 'portal-pictures-'))
const password = `${randomBytes(9).toString('base64url')}-Aa1`
const portal = startProgram('demo/server.ts', data, { HOST: '127.0.0.1', PORT: '0', NODE_ENV: 'development', DATA_DIR: join(data, 'data'), DEMO_PASSWORD: password, LOG_LEVEL: 'error' })
portal.stderr!.pipe(process.stderr)
const browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--hide-scrollbars'] })
try {
  const origin = await originOf()
  mkdirSync(FOLDER, { recursive: true })
  for (const name of [undefined, 'alice', 'admin'] as const) {
    const theirs = shots.filter(({ as }) => as === name)
    if (theirs.length === 0) continue
    const context = await browser.newContext({ viewport: SIZE, colorScheme: 'light', reducedMotion: 'reduce', locale: 'en-GB' })
    context.setDefaultTimeout(PATIENCE)
    const page = await context.newPage()
    await page.goto(origin)
    if (name !== undefined) await signIn(page, name)
    for (const shot of theirs) await take(page, origin, shot)
    await context.close()
  }
} finally {
  await browser.close()
  portal.kill()
  if (portal.exitCode === null && portal.signalCode === null) await once(portal, 'exit')
  rmSync(data, { recursive: true, force: true })
}

/** Where it listens: by name, for passkeys are for one. */
async function originOf (): Promise<string> {
  for await (const line of createInterface(portal.stdout!)) {
    const [, port] = /^listening on \S+:(\d+)$/.exec(line) ?? []
    if (port === undefined) continue
    portal.stdout!.resume()
    return `http://localhost:${port}`
  }
  throw new Error('the portal did not start')
}

async function signIn (page: Page, name: string): Promise<void> {
  const form = page.locator('#sign-in')
  await form.getByLabel('Name').fill(name)
  await form.getByLabel('Password').fill(password)
  await form.getByRole('button', { name: 'Sign in', exact: true }).click()
  await page.getByRole('button', { name: 'Sign out', exact: true }).waitFor()
}

async function take (page: Page, origin: string, { name, hash, prepare }: Shot): Promise<void> {
  await page.goto(`${origin}/#${hash}`)
  await page.reload()
  await page.locator('main:has(#outlet:not([aria-busy=true])) h1:not([hidden])').waitFor()
  await page.waitForLoadState('load')
  await prepare?.(page)
  await page.mouse.move(SIZE.width - 1, SIZE.height - 1)
  const { size } = await sharp(await page.screenshot()).png({ palette: true, quality: 90, effort: 8 }).toFile(join(FOLDER, `${name}.png`))
  console.log(`docs/screenshots/${name}.png  ${Math.ceil(size / 1024)} kB`)
}
