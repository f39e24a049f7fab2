/** `npx fastify-bastion doctor`: is what a service stands on fit for it. */
import { existsSync, readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { parseArgs, parseEnv } from 'node:util'
import { Kind, type TObject } from '@sinclair/typebox'
import type { Command } from '../command.js'
import { saysProduction } from '../settings/values.js'
import { advisoryChecks, refresh } from './advisories.js'
import type { Check } from './check.js'
import { certificateChecks, fileChecks, nodeChecks, secretChecks, settingChecks } from './machine.js'
import { postgresChecks, redisChecks } from './services.js'

const MARKS: Readonly<Record<Check['state'], string>> = { good: 'ok', warning: 'warning', bad: 'BAD', skipped: '-' }
const WIDTH = Math.max(...Object.values(MARKS).map(mark => mark.length))
const REGISTRY = 'https://registry.npmjs.org/'

export const doctor: Command = {
  name: 'doctor',
  summary: 'looks whether what a service stands on is fit for it',
  help: `npx fastify-bastion doctor [--env-file FILE] [--settings FILE] [--production] [--refresh] [--json] [--strict]

Looks at settings and secrets (by name, or by your schema), certificates (TLS_CERT, TLS_KEY), Redis (REDIS_URL) and PostgreSQL (DATABASE_URL, with your own pg):
whether they answer, their versions, the way to them, their clocks; at Node; and at known advisories of installed packages that guard a service.
No value of a setting is printed.

  --env-file FILE   settings beside those of the environment, which win (default .env)
  --settings FILE   a module that exports a TypeBox schema of settings, as default, schema or Settings
  --production      looks as production does; else NODE_ENV says so
  --refresh         asks the registry what is known of what is installed, and keeps it below node_modules; --registry URL for a mirror
  --json            for machines: { "state", "checks": [{ "about", "state", "message" }] }
  --strict          warnings count as faults

Exit codes: 0, 1 where something is bad, 2 for wrong arguments.`,
  async run (args, print) {
    const { values } = parseArgs({
      args: [...args],
      options: {
        'env-file': { type: 'string' },
        settings: { type: 'string' },
        production: { type: 'boolean', default: false },
        refresh: { type: 'boolean', default: false },
        registry: { type: 'string', default: process.env.npm_config_registry ?? REGISTRY },
        json: { type: 'boolean', default: false },
        strict: { type: 'boolean', default: false },
      },
    })
    if (!URL.canParse(values.registry)) throw new TypeError('--registry: must be a URL')
    const { 'env-file': path = '.env' } = values
    if (values['env-file'] !== undefined && !existsSync(path)) throw new Error(`--env-file: there is no ${path}`)
    const file = existsSync(path) ? parseEnv(readFileSync(path, 'utf8')) : {}
    const textOf = (name: string) => (process.env[name] || file[name]) || undefined
    const isProduction = values.production || saysProduction(textOf)
    const [folder, now] = [process.cwd(), Date.now()]
    const checks: Check[] = [
      ...nodeChecks(process.version, textOf, isProduction, now),
      ...fileChecks(path, isProduction),
      ...values.settings === undefined ? [] : settingChecks(await schemaIn(values.settings), textOf, isProduction),
      ...secretChecks([...Object.keys(file), ...Object.keys(process.env)], textOf, isProduction),
      ...certificateChecks(textOf('TLS_CERT'), textOf('TLS_KEY'), isProduction, now),
      ...await redisChecks(textOf('REDIS_URL'), isProduction),
      ...await postgresChecks(textOf('DATABASE_URL'), folder, isProduction),
      ...values.refresh ? [await refresh(folder, values.registry, now)] : [],
      ...advisoryChecks(folder, now),
    ]
    const state = stateOf(checks, values.strict)
    print(values.json ? JSON.stringify({ state, checks }, null, 2) : [...checks.map(lineOf), '', summaryOf(checks)].join('\n'))
    return state === 'bad' ? 1 : 0
  },
}

function stateOf (checks: readonly Check[], isStrict: boolean): 'good' | 'warning' | 'bad' {
  const has = (state: Check['state']) => checks.some(check => check.state === state)
  return has('bad') || (isStrict && has('warning')) ? 'bad' : has('warning') ? 'warning' : 'good'
}

function lineOf ({ about, state, message }: Check): string {
  return `${MARKS[state].padEnd(WIDTH)}  ${about}: ${message}`
}

function summaryOf (checks: readonly Check[]): string {
  const count = (state: Check['state']) => checks.filter(check => check.state === state).length
  return `${count('bad')} bad, ${count('warning')} to look at, ${count('good')} good, ${count('skipped')} not looked at`
}

async function schemaIn (path: string): Promise<TObject> {
  const file = resolve(path)
  if (!existsSync(file)) throw new Error(`${path}: there is no such file`)
  const module = await import(pathToFileURL(file).href) as Record<string, unknown>
  const schema = [module.default, module.schema, module.Settings].find(one => (one as TObject | undefined)?.type === 'object' && Kind in (one as object))
  if (schema === undefined) throw new Error(`${path}: exports no schema of settings: export Type.Object({ … }) as default, schema or Settings`)
  return schema as TObject
}
