/** What a request's problem says of who refused it. */

/** Concerns whose names in codes are two words. */
const TWO_WORDS: Record<string, string> = { SIGN_IN: 'sign-in', API_KEYS: 'api-keys', STEP_UP: 'access' }
const OURS = /^FST_BASTION_(?:(SIGN_IN|API_KEYS|STEP_UP)|([A-Z0-9]+))_/

/** The concern whose code this is; `fastify` and `service` for what is none of ours. */
export function concernOf (code: string): string {
  const [, twoWords, word] = OURS.exec(code) ?? []
  if (twoWords !== undefined) return TWO_WORDS[twoWords]!
  if (word !== undefined && word !== 'HTTP') return word.toLowerCase()
  return code.startsWith('FST_ERR_') ? 'fastify' : 'service'
}

/** `limited`: 429. `failed`: nobody decided that. */
export function outcomeOf ({ status, code }: { status: number, code: string }): 'refused' | 'limited' | 'failed' {
  if (status === 429) return 'limited'
  return code.startsWith('FST_BASTION_HTTP_5') ? 'failed' : 'refused'
}
