/** Tables of figures in Markdown files: each stands between `<!-- bench: name -->` and `<!-- /bench -->`, and a full run writes it anew. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { root } from './rounds.js'

/** A cell that is not there stays empty. */
type Cells = Record<string, string | number>

export function writeTable (file: string, name: string, rows: Cells[]): void {
  const path = join(root, file)
  const text = readFileSync(path, 'utf8')
  const place = new RegExp(`(<!-- bench: ${name} -->\n)[^]*?(<!-- /bench -->)`)
  if (!place.test(text)) throw new Error(`${file} has no place for the table of ${name}`)
  writeFileSync(path, text.replace(place, (_all, begin: string, end: string) => `${begin}${markdown(rows)}${end}`))
}

function markdown (rows: Cells[]): string {
  const columns = [...new Set(rows.flatMap(row => Object.keys(row)))]
  const line = (cells: (string | number)[]) => `| ${cells.join(' | ')} |\n`
  return `${line(columns)}|${columns.map(() => '---').join('|')}|\n${rows.map(row => line(columns.map(column => row[column] ?? ''))).join('')}`
}
