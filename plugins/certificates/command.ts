/** `npx fastify-bastion certificate [FOLDER]`: a certificate for development. */
import { X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { developmentCertificate } from './development.js'

export const command = {
  name: 'certificate',
  summary: 'makes a certificate for https://localhost, for development only, in FOLDER (default: .certificates)',
  /**
   * @param args the words after the command's name
   * @throws CertificateRefused in production
   */
  async run (args: readonly string[]): Promise<void> {
    const [folder = '.certificates', ...rest] = args
    if (folder.startsWith('-') || rest.length > 0) throw new TypeError('usage: fastify-bastion certificate [FOLDER]')
    const { cert, key } = await developmentCertificate({ folder })
    const { validTo, fingerprint256 } = new X509Certificate(readFileSync(cert))
    console.log(`certificate: ${cert}\nkey:         ${key} (keep it out of version control)\nvalid to:    ${validTo}\nSHA-256:     ${fingerprint256}`)
    console.log(`\nserver({ tls: { cert: '${cert}', key: '${key}' } })`)
  },
}
