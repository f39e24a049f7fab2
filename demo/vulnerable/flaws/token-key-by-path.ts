/** The token's `kid` is the path of a file (CWE-22, CWE-347; API2). In `tokens` it is compared with the few that there are. */
import { createHmac } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { bearerIn } from '../bearer.js'
import type { Twin } from '../app.js'

export default function tokenKeyByPath ({ directory, readers, userById }: Twin): void {
  readers.push(async request => {
    const token = bearerIn(request)
    if (token?.header.kid === undefined) return null
    const key = await readFile(join(directory, 'keys', token.header.kid)).catch(() => null)
    return key !== null && createHmac('sha256', key).update(token.text).digest().equals(token.signature) ? userById(token.claims.sub) : null
  })
}
