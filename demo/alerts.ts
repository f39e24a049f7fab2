/** Who is told of attacks on the portal: its log, and the receiver of webhooks that the settings name. */
import type { AlertsOptions } from '../plugins/alerts/index.js'
import type { PortalSettings } from './settings.js'

/** @throws where only one of the two settings is there */
export function alertsOf ({ ALERT_WEBHOOK_URL: url, ALERT_WEBHOOK_SECRET: secret }: PortalSettings, nameKey: Buffer): AlertsOptions {
  if ((url === undefined) !== (secret === undefined)) throw new Error('ALERT_WEBHOOK_URL and ALERT_WEBHOOK_SECRET belong together: set both')
  return { nameKey, ...url !== undefined && { webhook: { url, key: Buffer.from(secret!.slice('whsec_'.length), 'base64') } } }
}
