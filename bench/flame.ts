/** A flame graph as plain SVG: a call stands on its caller, as wide as it and what it called took. What is narrower than a hair is left out. */
import type { Call, Owner } from './profile.js'

const WIDTH = 1200
const ROW = 17
const TOP = 50
const LEAST = 2
const LETTER = 6.6
const COLOURS: Record<Owner, string> = {
  ours: '#2ea58a', Fastify: '#6f9fd8', Node: '#e0a458', native: '#a8adb3', generated: '#b79ad6', packages: '#8fb7c9', service: '#d98c8c',
}

export function flame (tree: Call, title: string): string {
  const rows: string[] = []
  const totals = new Map<Call, number>()
  const total = totalOf(tree)
  let deepest = 0
  let left = 0
  for (const call of sorted(tree)) left += draw(call, left, 0)
  const height = TOP + (deepest + 1) * ROW + 6
  const legend = Object.entries(COLOURS).map(([owner, colour], i) =>
    `<rect x="${8 + i * 100}" y="28" width="12" height="12" fill="${colour}"/><text x="${24 + i * 100}" y="38">${owner}</text>`).join('')
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" font-family="monospace" font-size="11">
<rect width="100%" height="100%" fill="#fff"/><text x="8" y="18" font-weight="bold">${escape(title)}</text>${legend}
${rows.join('\n')}
</svg>
`

  function totalOf (call: Call): number {
    const sum = [...call.callees.values()].reduce((sum, callee) => sum + totalOf(callee), call.self)
    totals.set(call, sum)
    return sum
  }

  function sorted (call: Call): Call[] {
    return [...call.callees.values()].sort((a, b) => totals.get(b)! - totals.get(a)!)
  }

  /** Answers how wide it is. */
  function draw (call: Call, x: number, depth: number): number {
    const width = totals.get(call)! / total * WIDTH
    if (width < LEAST) return width
    deepest = Math.max(deepest, depth)
    const y = TOP + depth * ROW
    const letters = Math.floor((width - 4) / LETTER)
    const text = letters < 3 ? '' : `<text x="${(x + 2).toFixed(1)}" y="${y + 12}">${escape(call.name.slice(0, letters))}</text>`
    const tip = escape(`${call.name} ${call.where}: ${(width / WIDTH * 100).toFixed(1)} %, itself ${(call.self / total * 100).toFixed(1)} %`)
    rows.push(`<g><title>${tip}</title><rect x="${x.toFixed(1)}" y="${y}" width="${Math.max(1, width - 0.5).toFixed(1)}" height="${ROW - 1}" fill="${COLOURS[call.owner]}"/>${text}</g>`)
    let inside = x
    for (const callee of sorted(call)) inside += draw(callee, inside, depth + 1)
    return width
  }
}

function escape (text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
}
