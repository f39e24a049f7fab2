/** Mails: by SMTP where a server is set; files in the data directory in development. */
import { randomBytes } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createTransport } from 'nodemailer'
import type { PortalSettings } from './settings.js'

export interface Mail { to: string, subject: string, text: string }
/** Rejects where it cannot be sent. Nobody who asks over HTTP waits for it: the time would tell whether an address is known. */
export type SendMail = (mail: Mail) => Promise<void>

const TIMEOUT_MS = 10_000

/** Null where mails cannot be sent: in production without a server. */
export function mailer ({ SMTP_URL, MAIL_FROM, DATA_DIR, NODE_ENV }: PortalSettings): SendMail | null {
  if (SMTP_URL !== undefined) {
    const transport = createTransport(SMTP_URL, { from: MAIL_FROM, connectionTimeout: TIMEOUT_MS, socketTimeout: TIMEOUT_MS, disableFileAccess: true, disableUrlAccess: true } as never)
    return async mail => { await transport.sendMail(mail) }
  }
  return NODE_ENV === 'production' ? null : intoFolder(join(DATA_DIR, 'mail'), MAIL_FROM)
}

function intoFolder (folder: string, from: string): SendMail {
  return async ({ to, subject, text }) => {
    mkdirSync(folder, { recursive: true, mode: 0o700 })
    const name = `${new Date().toISOString().replaceAll(':', '-')}-${randomBytes(3).toString('hex')}.txt`
    writeFileSync(join(folder, name), `From: ${from}\nTo: ${to}\nSubject: ${subject}\n\n${text}\n`, { mode: 0o600, flag: 'wx' })
  }
}
