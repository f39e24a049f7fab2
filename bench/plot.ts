/** The plot of README: requests a second, as a share of bare Fastify's. Plain SVG, legible on light and dark. */
import type { Measured } from './requests.js'

const WIDTH = 790
const LABEL = 220
const VALUE = 130
const BAR = 22
const STEP = 34
const TOP = 44
export const NAMES: Record<string, string> = {
  bare: 'bare Fastify, no protection',
  suite: 'fastify-bastion',
  'hand-wired-cached': 'official plugins, tokens cached',
  'hand-wired': 'official plugins, hand-wired',
  hono: 'Hono on Node',
  express: 'Express 5',
  'express-key-object': 'Express 5, key object',
  nestjs: 'NestJS 11 on Fastify',
  'nestjs-key-object': 'NestJS 11 on Fastify, key object',
  fastapi: 'FastAPI',
}

export function plot (measured: Record<string, Measured>): string {
  const rows = Object.entries(measured).sort(([, a], [, b]) => b.ofBase.median - a.ofBase.median)
  const most = Math.max(...rows.map(([, { ofBase }]) => ofBase.q3))
  const long = (share: number) => Math.round(share / most * (WIDTH - LABEL - VALUE))
  const bars = rows.map(([name, { ofBase, requestsPerSecond }], i) => {
    const y = TOP + i * STEP
    const middle = y + BAR / 2
    return `<text x="${LABEL - 10}" y="${middle + 4}" text-anchor="end">${NAMES[name] ?? name}</text>
<rect class="${name === 'suite' ? 'ours' : 'other'}" x="${LABEL}" y="${y}" width="${long(ofBase.median)}" height="${BAR}" rx="3"/>
<path class="spread" d="M${LABEL + long(ofBase.q1)} ${middle}H${LABEL + long(ofBase.q3)}"/>
<text x="${LABEL + long(Math.max(ofBase.median, ofBase.q3)) + 8}" y="${middle + 4}">${ofBase.median.toFixed(2)} · ${requestsPerSecond.median.toLocaleString('en')}/s</text>`
  })
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${TOP + rows.length * STEP + 8}" width="${WIDTH}" role="img" aria-labelledby="title">
<title id="title">Requests a second of an authenticated GET, as a share of bare Fastify</title>
<style>
text { font: 13px system-ui, sans-serif; fill: #57606a }
.head { font-weight: 600 }
.ours { fill: #1a7f64 }
.other { fill: #8c959f }
.spread { stroke: #24292f; stroke-width: 2 }
@media (prefers-color-scheme: dark) { text { fill: #adbac7 } .ours { fill: #2ea58a } .other { fill: #636e7b } .spread { stroke: #f0f6fc } }
</style>
<text class="head" x="0" y="20">Authenticated GET with every protection: share of bare Fastify · requests a second (line: quartiles)</text>
${bars.join('\n')}
</svg>
`
}
