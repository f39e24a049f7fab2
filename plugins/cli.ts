#!/usr/bin/env node
/** `npx fastify-bastion`: one command a module. */
import { existsSync, realpathSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { certificate } from './certificates/command.js'
import { MISUSED, type Command } from './command.js'
import { doctor } from './doctor/command.js'
import { conceal } from './log.js'
import { posture } from './posture/command.js'
import { secret } from './settings/command.js'

const COMMANDS: readonly Command[] = [secret, certificate, posture, doctor]

/** Milliseconds after a command until what keeps the process is left behind. */
const LINGER_MS = 2000
const WIDTH = Math.max(...COMMANDS.map(({ name }) => name.length))
const HELP = `npx fastify-bastion <command> [options]

${COMMANDS.map(({ name, summary }) => `  ${name.padEnd(WIDTH)}  ${summary}`).join('\n')}

npx fastify-bastion <command> --help tells of its options.`

/**
 * Runs a command; resolves with the exit code: 2 where the command or its arguments are wrong.
 *
 * @param print where a line goes that was asked for
 * @param complain where all others go
 */
export async function cli (args: readonly string[], print: (line: string) => void = console.log, complain: (line: string) => void = console.error): Promise<number> {
  const [name, ...rest] = args
  const isHelp = rest.includes('--help') || rest.includes('-h')
  if (name === '--help' || name === '-h' || name === 'help') return said(print, HELP, 0)
  const command = COMMANDS.find(one => one.name === name)
  if (command === undefined) return said(complain, name === undefined ? HELP : `fastify-bastion: there is no command ${JSON.stringify(name)}\n\n${HELP}`, MISUSED)
  if (isHelp) return said(print, command.help, 0)
  try {
    return await command.run(rest, print)
  } catch (error) {
    const message = conceal((error as Error).message) // of whatever a loaded module throws
    if (error instanceof TypeError) return said(complain, `fastify-bastion ${command.name}: ${message}\n\n${command.help}`, MISUSED)
    return said(complain, `fastify-bastion ${command.name}: ${message}`, 1)
  }
}

function said (print: (line: string) => void, text: string, code: number): number {
  print(text)
  return code
}

/** By its own name, or by the link that npm makes. */
const [, started = ''] = process.argv
if (existsSync(started) && realpathSync(started) === fileURLToPath(import.meta.url)) {
  let code: number | null = null
  // A loaded module that ends the process, or waits for nothing, must not pass for a good one.
  process.on('exit', () => {
    if (code !== null) return
    console.error('fastify-bastion: ended before it was done: a module that it loaded calls process.exit(), or waits for what never comes')
    process.exitCode = 1
  })
  code = await cli(process.argv.slice(2))
  process.exitCode = code
  // What a loaded application left open would keep it for ever.
  setTimeout(() => { process.exit() }, LINGER_MS).unref()
}
