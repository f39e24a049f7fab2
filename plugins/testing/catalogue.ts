/** Every finding that there is: what it means, how bad it is, and where it is written about. */
import type { Severity } from './contract.js'

export type FamilyName = 'authorization' | 'credentials' | 'mutations' | 'assignment' | 'input' | 'exposure' | 'limits' | 'answers' | 'leaks' | 'uploads' | 'outbound' | 'slowness' | 'framing' | 'traces'

export interface Kind {
  severity: Severity
  /** What is wrong, in a sentence that begins with its subject. */
  title: string
  cwe: number
  /** OWASP API Security Top 10 (2023). */
  owasp: `API${1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10}`
}

const kind = (severity: Severity, owasp: Kind['owasp'], cwe: number, title: string): Kind => ({ severity, owasp, cwe, title })

export const CATALOGUE = {
  'authorization.open': kind('critical', 'API2', 306, 'A guarded route answers callers who are not signed in'),
  'authorization.role': kind('critical', 'API5', 862, 'A route answers callers without the role, permission or kind of credential that it asks for'),
  'authorization.object': kind('critical', 'API1', 639, 'A route reaches objects of somebody else'),
  'authorization.hidden': kind('medium', 'API1', 204, 'A refused object can be told from one that does not exist'),
  'authorization.head': kind('high', 'API5', 862, 'HEAD is guarded less than its GET'),
  'authorization.method': kind('high', 'API5', 650, 'A header, a parameter or a method that nobody declared reaches a handler'),
  'authorization.step-up': kind('high', 'API2', 308, 'A route that wants a fresh proof takes an old one, or one without the factors'),
  'authorization.grant': kind('high', 'API5', 269, 'Somebody hands out a right that they do not have'),
  'authorization.denied': kind('low', 'API5', 863, 'A route refuses callers whom its policy lets in'),
  'authorization.unlisted': kind('high', 'API9', 1059, 'A route is in the application and not in the policy'),
  'credentials.garbage': kind('critical', 'API2', 287, 'A credential that is no credential passes'),
  'credentials.forged': kind('critical', 'API2', 347, 'A token whose content or signature was changed passes'),
  'credentials.algorithm': kind('critical', 'API2', 347, 'A token that chooses its own algorithm or key passes'),
  'credentials.expired': kind('high', 'API2', 613, 'A token passes outside of its time'),
  'credentials.audience': kind('high', 'API2', 287, 'A token for another audience or of another issuer passes'),
  'credentials.kind': kind('high', 'API2', 287, 'A credential of another kind passes as one for access'),
  'credentials.revoked': kind('high', 'API2', 613, 'A credential passes that was ended'),
  'credentials.several': kind('medium', 'API2', 436, 'Two different credentials in one request pass'),
  'credentials.session': kind('critical', 'API2', 384, 'A cookie whose content was changed passes'),
  'credentials.fixation': kind('high', 'API2', 384, 'A sign-in keeps the cookie that the browser brought'),
  'credentials.csrf': kind('high', 'API2', 352, 'A request passes that a page of another site could have sent'),
  'mutations.path': kind('critical', 'API5', 178, 'Another spelling of a path passes its guards'),
  'mutations.media-type': kind('high', 'API8', 436, 'A media type that was not declared, or its odd spelling, passes validation'),
  'mutations.malformed': kind('medium', 'API8', 20, 'A malformed body is taken'),
  'mutations.host': kind('medium', 'API8', 346, 'A host that is not trusted is answered'),
  'assignment.undeclared': kind('high', 'API3', 915, 'A body takes a field that is not declared'),
  'assignment.prototype': kind('high', 'API3', 1321, 'A body takes a field that names the prototype of objects'),
  'input.type': kind('medium', 'API8', 843, 'A value of another type is taken'),
  'input.bounds': kind('medium', 'API4', 1284, 'A value beyond its bounds is taken'),
  'input.missing': kind('medium', 'API8', 20, 'A body without a required field is taken'),
  'input.query': kind('low', 'API8', 20, 'A query that was not declared is taken'),
  'input.card': kind('high', 'API8', 311, 'A card number is taken'),
  'input.injection': kind('critical', 'API8', 74, 'What a value says is carried out, by a database or a shell'),
  'input.password': kind('medium', 'API2', 521, 'A password is taken that everybody tries first'),
  'input.markup': kind('high', 'API8', 79, 'HTML comes back with what runs scripts where it is shown'),
  'input.replay': kind('high', 'API2', 294, 'What is good once passes a second time'),
  'input.race': kind('high', 'API2', 362, 'What is good once passes several times where it is sent at once'),
  'exposure.undeclared': kind('high', 'API3', 213, 'An answer holds a field that is not declared'),
  'exposure.hidden': kind('critical', 'API3', 213, 'An answer shows a field to somebody who may not see it'),
  'exposure.canary': kind('critical', 'API3', 200, 'An answer holds a text that was planted where it must stay'),
  'exposure.secret': kind('critical', 'API3', 522, 'An answer holds what looks like a hash or a key'),
  'limits.exceeded': kind('high', 'API4', 770, 'More requests pass than the limit says'),
  'limits.race': kind('high', 'API4', 362, 'More requests pass than the limit says where they are sent at once'),
  'limits.shared': kind('medium', 'API4', 645, 'A caller spends the budget of another'),
  'limits.variant': kind('high', 'API4', 770, 'HEAD, another spelling or a forwarded address has a budget of its own'),
  'limits.retry': kind('low', 'API4', 755, 'A 429 does not say when to come back'),
  'answers.headers': kind('medium', 'API8', 693, 'An answer lacks a security header'),
  'answers.cache': kind('medium', 'API8', 525, 'A refusal, or an answer to somebody who is signed in, may be kept by caches'),
  'answers.names': kind('low', 'API8', 200, 'An answer names the software that made it'),
  'answers.cors': kind('high', 'API8', 942, 'A page of any origin may read the answers'),
  'answers.cookie': kind('medium', 'API8', 1004, 'The cookie of a sign-in can be read by scripts, or is sent along by other sites'),
  'answers.markup': kind('medium', 'API8', 79, 'An answer of HTML repeats what was asked for'),
  'answers.redirect': kind('medium', 'API8', 601, 'An answer leads to a host that whoever asks has chosen'),
  'answers.form': kind('low', 'API8', 209, 'A refusal is not in the form of problem details'),
  'answers.challenge': kind('low', 'API2', 358, 'A 401 names no challenge'),
  'answers.head': kind('low', 'API8', 358, 'An answer to HEAD has a body'),
  'leaks.canary': kind('high', 'API8', 209, 'A failure tells its internal message'),
  'leaks.internal': kind('high', 'API8', 209, 'A refusal tells of files, queries or addresses inside'),
  'leaks.accounts': kind('medium', 'API2', 204, 'An answer tells which accounts there are'),
  'leaks.failure': kind('medium', 'API8', 755, 'An attack makes a handler fail'),
  'uploads.content': kind('high', 'API8', 434, 'A file is taken whose content, name and type do not agree, or are none of those declared'),
  'uploads.name': kind('medium', 'API8', 73, 'A file is kept under the name that its sender gave it, whatever stands there'),
  'uploads.size': kind('medium', 'API4', 770, 'More bytes, files or pixels are taken than are declared'),
  'outbound.reached': kind('high', 'API7', 918, 'The service connects to its own machine where a URL leads there'),
  'slowness.pattern': kind('high', 'API4', 1333, 'A text costs far more time than its length is worth'),
  'framing.lengths': kind('high', 'API8', 444, 'A request is answered whose end can be read in two ways'),
  'traces.stored': kind('high', 'API2', 312, 'A password, a key or a token lies readable where things are kept'),
  'traces.erased': kind('high', 'API8', 459, 'What somebody wrote is kept after they were erased'),
  'traces.lines': kind('medium', 'API8', 117, 'What a client sends begins a line of its own in the log'),
  'traces.logged': kind('high', 'API8', 532, 'The log holds a password, a key or a token'),
  'traces.unrecorded': kind('medium', 'API8', 778, 'What the audit trail must hold is not in it'),
  'traces.predictable': kind('critical', 'API2', 340, 'A token can be reckoned by somebody who was not given it'),
} as const satisfies Record<`${FamilyName}.${string}`, Kind>

export type FindingId = keyof typeof CATALOGUE

export const FINDING_IDS = Object.keys(CATALOGUE) as readonly FindingId[]

export function familyOf (id: FindingId): FamilyName {
  return id.slice(0, id.indexOf('.')) as FamilyName
}
