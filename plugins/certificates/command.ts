/** `npx fastify-bastion certificate`: a certificate for development. */
import { X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import type { Command } from '../command.js'
import { developmentCertificate } from './development.js'

export const certificate: Command = {
  name: 'certificate',
  summary: 'makes a certificate for https://localhost, for development only',
  help: `npx fastify-bastion certificate [--folder FOLDER]

Makes a self-signed certificate for localhost, 127.0.0.1 and [::1], good for 90 days; one that is still good for a week is kept. Refused in production.
Needs two packages: npm install --save-dev @peculiar/x509 reflect-metadata

  --folder FOLDER  where certificate and key are written (default .certificates): keep it out of version control`,
  async run (args, print) {
    const { folder } = parseArgs({ args: [...args], options: { folder: { type: 'string', default: '.certificates' } } }).values
    const { cert, key } = await developmentCertificate({ folder })
    const { validTo, fingerprint256 } = new X509Certificate(readFileSync(cert))
    print(`certificate  ${cert}\nkey          ${key}\nvalid to     ${validTo}\nSHA-256      ${fingerprint256}\n\nserver({ tls: { cert: '${cert}', key: '${key}' } })`)
    return 0
  },
}
