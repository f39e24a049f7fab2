/** The hooks of Node that read the TypeScript of this project, which is erasable: types are taken out, nothing else changes. */
import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { javaScript } from './cache.js'

const DOMAIN = new URL('domain.js', import.meta.url).href

/** `./name.js`, as TypeScript wants it to be written, is `./name.ts` where there is one. What is beyond doubt need not be looked for by Node. */
export function resolve (specifier, context, next) {
  const { parentURL } = context
  if (specifier === 'async-hook-domain') return { url: DOMAIN, format: 'module', shortCircuit: true }
  if (parentURL === undefined || !/^\.\.?\//.test(specifier)) return next(specifier, context)
  const { href } = new URL(specifier, parentURL)
  if (parentURL.endsWith('.ts') && href.endsWith('.js')) {
    const url = `${href.slice(0, -3)}.ts`
    if (existsSync(fileURLToPath(url))) return { url, format: 'module', shortCircuit: true }
  }
  return isModule(href) && isModule(parentURL) ? { url: href, format: 'module', shortCircuit: true } : next(specifier, context)
}

export function load (url, context, next) {
  if (isModule(url)) return { format: 'module', source: readFileSync(new URL(url)), shortCircuit: true }
  if (!url.startsWith('file:') || !url.endsWith('.ts')) return next(url, context)
  const source = javaScript(fileURLToPath(url))
  return typeof source === 'string' ? { format: 'module', source, shortCircuit: true } : source.then(source => ({ format: 'module', source, shortCircuit: true }))
}

const isModule = url => url.startsWith('file:') && url.endsWith('.mjs')
