/** The phases of a request, and the stages in them. */

/**
 * The order of the stages is the order in which a request passes them.
 * `edge` and `guard` are one hook; at the end of the first nothing is known of who asks, and preflights are answered.
 * `recall` fetches what a credential only names; `body` looks into what was parsed before it is validated; `keep` waits for the evidence of an answer
 * that is decided.
 */
export const PHASES = {
  edge: ['headers', 'transport', 'flood', 'cors', 'overload'],
  guard: ['recall', 'identify', 'limit', 'authorize', 'csrf'],
  parsed: ['body'],
  resource: ['admit', 'resource'],
  view: ['view'],
  sent: ['save', 'expose', 'keep'],
  done: ['record'],
} as const
/** Fastify's hook in which a phase runs. */
export const HOOKS = {
  edge: 'onRequest', guard: 'onRequest', parsed: 'preValidation', resource: 'preHandler', view: 'preSerialization', sent: 'onSend', done: 'onResponse',
} as const

export type Phase = keyof typeof PHASES
export type Stage = typeof PHASES[Phase][number]

export function phaseOf (stage: Stage): Phase {
  return (Object.keys(PHASES) as Phase[]).find(phase => (PHASES[phase] as readonly string[]).includes(stage))!
}
