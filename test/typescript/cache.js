/** JavaScript of TypeScript, kept under `.tap` by what it was made from. */
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'

const FOLDER = fileURLToPath(new URL('../../.tap/typescript/', import.meta.url))

/** What a file is without its types, with a map of its lines: at once where it is kept, else it is made. */
export function javaScript (path) {
  const source = readFileSync(path)
  const kept = `${FOLDER}${createHash('sha256').update(`${path}\0`).update(source).digest('hex')}.js`
  try {
    return readFileSync(kept, 'utf8')
  } catch {
    return make(path, source, kept)
  }
}

async function make (path, source, kept) {
  // The one that tsx brings.
  const { transform } = createRequire(createRequire(import.meta.url).resolve('tsx'))('esbuild')
  const { code } = await transform(source, { loader: 'ts', format: 'esm', target: 'node20', sourcemap: 'inline', sourcefile: path, sourcesContent: false })
  // Another process may make the same at this moment: nobody finds half of it.
  const own = `${kept}.${process.pid}`
  mkdirSync(FOLDER, { recursive: true })
  writeFileSync(own, code)
  renameSync(own, kept)
  return code
}
