/** `npx fastify-bastion secret`: secrets that are good, so that nobody has to copy one. */
import { randomBytes } from 'node:crypto'
import { parseArgs } from 'node:util'
import type { Command } from '../command.js'
import { weaknessOf } from './secrets.js'

const MIN_BYTES = 32
const MAX_BYTES = 1024

export const secret: Command = {
  name: 'secret',
  summary: 'makes a secret that production takes',
  help: `npx fastify-bastion secret [--bytes N] [--name NAME]...

Prints random bytes in base64url.

  --bytes N    how many bytes, ${MIN_BYTES} to ${MAX_BYTES} (default 48)
  --name NAME  prints NAME=secret, a line for .env; several times for several secrets`,
  run (args, print) {
    const { bytes: text, name: names = [] } = parseArgs({ args: [...args], options: { bytes: { type: 'string', default: '48' }, name: { type: 'string', multiple: true } } }).values
    const bytes = /^\d{1,4}$/.test(text) ? Number(text) : 0
    if (bytes < MIN_BYTES || bytes > MAX_BYTES) throw new TypeError(`--bytes: must be ${MIN_BYTES} to ${MAX_BYTES}`)
    if (names.some(name => !/^[A-Za-z_]\w*$/.test(name))) throw new TypeError('--name: must be the name of a variable: letters, digits and _')
    if (names.length === 0) print(strong(bytes))
    for (const name of names) print(`${name}=${strong(bytes)}`)
    return 0
  },
}

/** By chance, once in billions, bytes look weak. */
function strong (bytes: number): string {
  for (;;) {
    const text = randomBytes(bytes).toString('base64url')
    if (weaknessOf(text) === null) return text
  }
}
