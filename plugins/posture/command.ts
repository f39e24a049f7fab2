/** `npx fastify-bastion posture`: what protects each route, graded, and held against what it was. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import type { FastifyInstance } from 'fastify'
import type { Command } from '../command.js'
import { baselineOf, readBaseline, writeBaseline, type Baseline } from './baseline.js'
import { changeLines, FORMATS } from './formats.js'
import { loadApp } from './loading.js'
import { reportOf } from './report.js'

const FORMAT_NAMES = Object.keys(FORMATS).join(', ')

export const posture: Command = {
  name: 'posture',
  summary: 'tells what protects each route, and refuses what became weaker',
  help: `npx fastify-bastion posture FILE [--format FORMAT] [--output FILE] [--baseline FILE] [--write-baseline FILE]

Loads a module that exports an application (the instance, a promise of it or a function that makes it, as default, app, build or buildApp), makes it
ready without listening, and reads its routes. NODE_ENV and all other settings are yours: read it as it is in production.

  --format FORMAT        ${FORMAT_NAMES} (default table)
  --output FILE          writes the report there, and not between the lines that the application logs
  --baseline FILE        what it was: exit code 1 where a route, a role or the service became weaker, each in one line
  --write-baseline FILE  writes what it is, for the next time: into version control, so that a change of it is reviewed

Exit codes: 0, 1 for what became weaker or could not be read, 2 for wrong arguments.`,
  async run (args, print) {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: { format: { type: 'string', default: 'table' }, output: { type: 'string' }, baseline: { type: 'string' }, 'write-baseline': { type: 'string' } },
    })
    const { format, output, baseline, 'write-baseline': written } = values
    const [file, ...more] = positionals
    if (file === undefined || more.length > 0) throw new TypeError('name one module: npx fastify-bastion posture ./app.js')
    const write = Object.hasOwn(FORMATS, format) ? FORMATS[format]! : null
    if (write === null) throw new TypeError(`--format: must be one of ${FORMAT_NAMES}`)
    const before = baseline === undefined ? null : baselineIn(baseline)
    const app = await loadApp(file)
    try {
      const { posture } = app as FastifyInstance & { posture?: FastifyInstance['posture'] }
      if (posture === undefined) throw new Error(`${file}: its application has no posture(): register fastify-bastion, or fastify-bastion/posture beside the concerns that it uses`)
      const report = reportOf(file, posture(), before)
      const text = write(report)
      if (output === undefined) print(text)
      else {
        writeFileSync(output, `${text}\n`)
        print(`${file}: grade ${report.grade}, written to ${output}`)
        for (const [title, lines] of changeLines(report)) print([`${title}:`, ...lines.map(line => `  ${line}`)].join('\n'))
      }
      if (written !== undefined) writeFileSync(written, writeBaseline(baselineOf(report.posture)))
      return report.changes?.some(({ is }) => is === 'weaker') === true ? 1 : 0
    } finally {
      await app.close().catch(() => {}) // what it closes is no part of the report
    }
  },
}

function baselineIn (path: string): Baseline {
  if (!existsSync(path)) throw new Error(`${path}: there is no baseline yet: write one with --write-baseline ${path}`)
  try {
    return readBaseline(readFileSync(path, 'utf8'))
  } catch (error) {
    throw new Error(`${path}: ${(error as Error).message}`)
  }
}
