/** What each event is in OWASP's Logging Vocabulary, and how it ended. */
import type { SecurityEventType } from '../events.js'

export type Outcome = 'success' | 'failure' | 'unknown'
type Word = readonly [id: string | null, outcome: Outcome]

const ok = (id: string | null): Word => [id, 'success']
const failed = (id: string | null): Word => [id, 'failure']
const told = (id: string | null): Word => [id, 'unknown']

/** Types that a service adds are not among them: they have no id, and the outcome that their details say. */
export const VOCABULARY: Readonly<Record<string, Word>> = {
  login_success: ok('authn_login_success'),
  login_failure: failed('authn_login_fail'),
  login_locked: failed('authn_login_lock'),
  account_unlocked: ok('authz_admin'),
  mfa_enrolled: ok('authn_password_change'),
  mfa_disabled: ok('authn_password_change'),
  mfa_success: ok('authn_login_success'),
  mfa_failure: failed('authn_login_fail'),
  mfa_locked: failed('authn_login_lock'),
  mfa_device_remembered: ok('authn_token_created'),
  recovery_code_used: ok('authn_login_success'),
  passkey_added: ok('authn_password_change'),
  passkey_removed: ok('authn_password_change'),
  passkey_cloned: failed('authn_token_reuse'),
  key_created: ok('authn_token_created'),
  key_rotated: ok('authn_token_created'),
  key_revoked: ok('authn_token_revoked'),
  key_refused: failed('authz_fail'),
  session_started: ok('session_created'),
  session_ended: ok('session_expired'),
  logout: ok('session_expired'),
  token_issued: ok('authn_token_created'),
  token_reused: failed('authn_token_reuse'),
  token_revoked: ok('authn_token_revoked'),
  proof_replayed: failed('authn_token_reuse'),
  password_change: ok('authn_password_change'),
  permission_change: ok('authz_change'),
  access_denied: failed('authz_fail'),
  csrf_refused: failed('malicious_cors'),
  rate_limited: failed('excess_rate_limit_exceeded'),
  limit_reset: ok('authz_admin'),
  malformed_request: failed('input_validation_fail'),
  card_refused: failed('input_validation_fail'),
  outbound_refused: failed('malicious_direct_reference'),
  untrusted_host: failed('malicious_extraneous'),
  plain_http_refused: failed('malicious_extraneous'),
  violation_reported: told(null),
  undeclared_answer: failed(null),
  state_full: told(null),
  state_away: told(null),
  state_back: told(null),
  state_unconfirmed: told(null),
  overload_started: told(null),
  overload_ended: told(null),
  upload_stored: ok('upload_stored'),
  upload_refused: failed('upload_validation'),
  upload_removed: ok('upload_delete'),
  data_access: ok('sensitive_read'),
  data_modification: ok('sensitive_update'),
  data_exported: ok('sensitive_read'),
  data_erased: ok('sensitive_delete'),
  data_purged: ok('sensitive_delete'),
  erasure_delayed: failed(null),
  purge_failed: failed(null),
  consent_given: ok('sensitive_update'),
  consent_withdrawn: ok('sensitive_update'),
  decryption_failed: failed('crypt_decrypt_fail'),
  encryption_exhausted: failed('crypt_encrypt_fail'),
  encryption_rotated: ok(null),
  audit_away: told('sys_monitor_disabled'),
  audit_back: told('sys_monitor_enabled'),
  audit_lost: failed('sys_monitor_disabled'),
  audit_broken: failed('sys_monitor_disabled'),
  alert_raised: told(null),
  alert_undelivered: failed(null),
  certificate_expiring: told(null),
  certificate_invalid: failed(null),
  certificate_refused: failed(null),
  certificate_reloaded: ok(null),
  client_certificate_refused: failed('authn_login_fail'),
  deprecated_use: told(null),
}

/** How it ended: as its details say, else as its type is. */
export function outcomeOf (type: SecurityEventType, { outcome }: Record<string, unknown>): Outcome {
  return outcome === 'success' || outcome === 'failure' ? outcome : VOCABULARY[type]?.[1] ?? 'unknown'
}

export function vocabularyOf (type: string): string | null {
  return VOCABULARY[type]?.[0] ?? null
}
