/** The link in the mail leads to whatever host the request named (CWE-640, CWE-644; API2). `transport` answers for the hosts that are listed, and no others. */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { FastifyRequest } from 'fastify'
import type { User } from '../data.js'
import type { Twin } from '../app.js'
import { resetTokenOf } from './predictable-reset-token.js'

export async function mailResetLink ({ directory }: Twin, user: User, request: FastifyRequest): Promise<void> {
  const folder = join(directory, 'mail')
  await mkdir(folder, { recursive: true })
  const link = `http://${request.headers.host}/reset?token=${resetTokenOf(user)}`
  await writeFile(join(folder, `${Date.now()}-${user.id}.txt`), `To: ${user.email}\nSubject: Choose a new password\n\nOpen this link: ${link}\n`)
}
