/** A copy of this repository, in which mutations are tried one after the other. */
import { execFile } from 'node:child_process'
import { cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { Finding } from '../../../plugins/testing/index.js'
import { MUTANTS, type Mutant } from './table.js'

export const ROOT = fileURLToPath(new URL('../../../', import.meta.url))
/** What the portal, the small service and the kit are made of. */
const PARTS = ['package.json', 'tsconfig.json', 'plugins', 'schemas', 'demo', 'test']
const TRIAL = 'test/testing/mutants/trial.ts'
/** Milliseconds. */
const PATIENCE = 120_000

export type Found = Pick<Finding, 'id' | 'route'>
/** What became of a mutation; `broken`: it stopped the attack instead of weakening what is attacked. */
export interface Outcome { mutant: Mutant, caught: readonly Found[], others: readonly Found[], broken: string | null, ms: number }

/** How often the text that a mutation replaces is in its file: once, or it does not apply. */
export async function timesIn ({ file, from }: Mutant, root = ROOT): Promise<number> {
  return (await readFile(join(root, file), 'utf8')).split(from).length - 1
}

export class Copy {
  readonly #root: string

  private constructor (root: string) {
    this.#root = root
  }

  static async make (): Promise<Copy> {
    const root = await mkdtemp(join(tmpdir(), 'bastion-mutants-'))
    for (const part of PARTS) await cp(join(ROOT, part), join(root, part), { recursive: true })
    await symlink(join(ROOT, 'node_modules'), join(root, 'node_modules'))
    // Databases that are made already need not be made again.
    await mkdir(join(ROOT, '.tap/embedded'), { recursive: true })
    await symlink(join(ROOT, '.tap'), join(root, '.tap'))
    return new Copy(root)
  }

  async try (mutant: Mutant): Promise<Outcome> {
    const started = performance.now()
    const path = join(this.#root, mutant.file)
    const kept = await readFile(path, 'utf8')
    const outcome = (found: readonly Found[], broken: string | null = null): Outcome => ({
      mutant, caught: found.filter(({ id }) => id === mutant.expected), others: found.filter(({ id }) => id !== mutant.expected), broken, ms: performance.now() - started,
    })
    if (await timesIn(mutant, this.#root) !== 1) return outcome([], 'its text is not in its file exactly once')
    await writeFile(path, kept.replace(mutant.from, () => mutant.to))
    try {
      const [found] = await this.attack([mutant])
      return outcome(found!)
    } catch (error) {
      return outcome([], String((error as { stderr?: string }).stderr ?? error).trim().split('\n').find(line => /Error/.test(line)) ?? String(error))
    } finally {
      await writeFile(path, kept)
    }
  }

  /** What is found by the attacks of these mutations, all in one process, in the tree as it is now. */
  async attack (mutants: readonly Mutant[]): Promise<(readonly Found[])[]> {
    const numbers = mutants.map(mutant => String(MUTANTS.indexOf(mutant)))
    const { stdout } = await promisify(execFile)(process.execPath, ['--import', 'tsx', TRIAL, ...numbers], { cwd: this.#root, timeout: PATIENCE * Math.ceil(numbers.length / 20), maxBuffer: 2 ** 24 })
    const lines = stdout.trim().split('\n').map(line => JSON.parse(line) as { found: Found[] })
    if (lines.length !== mutants.length) throw new Error('Error: the attack ended before its time')
    return lines.map(({ found }) => found)
  }

  async remove (): Promise<void> {
    await rm(this.#root, { recursive: true, force: true })
  }
}
