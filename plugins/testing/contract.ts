/** What the attack kit is given and what it answers. */
import { Type, type Static } from '@sinclair/typebox'
import type { FamilyName, FindingId } from './catalogue.js'

/** How one of the service's callers proves who they are, and what the policy grants them. */
export interface Principal {
  /** Sent as `Authorization: Bearer …`. Of a JWT the claims `sub`, `roles`, `scope`, `plan`, `auth_time` and `amr` are read where they are not given here. */
  token?: string
  /** Sent as `X-API-Key`. */
  key?: string
  /** Sent as `Cookie`. */
  cookie?: string
  /** Sent as `X-CSRF-Token` where an unsafe method rides on the cookie. */
  csrf?: string
  /** Anything else that is sent. */
  headers?: Readonly<Record<string, string>>
  /** Id of the user, or of the key. */
  id?: string
  roles?: readonly string[]
  /** Beside those that the roles give. */
  permissions?: readonly string[]
  /** What the credential was cut down to. */
  scopes?: readonly string[]
  plan?: string
  /** Default: by which of `token`, `cookie` and `key` is there. */
  via?: 'bearer' | 'session' | 'key' | 'certificate'
  /** Seconds since the epoch. */
  authTime?: number
  amr?: readonly string[]
}

/** Of a principal whose credentials are used up: the function is asked again whenever they may be. */
export type PrincipalSource = Principal | (() => Principal | Promise<Principal>)
export type Principals = Readonly<Record<string, PrincipalSource>>

/** An id, or a function that makes a fresh object and answers its id: asked for each request that may change it. */
export type ObjectSource = string | (() => string | Promise<string>)
/** By route parameter, or field of query or body that holds an id, the object of each principal by name; `*` is one that belongs to none of them. Of fields that are called otherwise than `id` or `…Id` in the hints of a route. */
export type Objects = Readonly<Record<string, Readonly<Record<string, ObjectSource>>>>

/** Anything, or a function that makes it afresh. */
export type Made<T> = T | (() => T | Promise<T>)

/** What files a route takes, in a form of several parts. */
export interface UploadPolicy {
  /** Name of its part (default `file`). */
  field?: string
  /** `png`, `jpeg`, `gif`, `webp`, `pdf`; of others nothing is proven. */
  kinds: readonly string[]
  /** Of the file. */
  maxBytes?: number
  /** Pixels of a picture. */
  maxWidth?: number
  maxHeight?: number
  maxPixels?: number
}

/** What no plan and no schema says of a route. */
export interface RoutePromises {
  /** What its body holds is good once: the same request is refused the second time, and of several at once all but one. */
  once?: boolean
  /** A field of its body, of which nobody is told whether there is an account of this name; `values` or the body of the hints names one that there is. */
  conceals?: string
  /** The file that it takes, one a request. */
  upload?: UploadPolicy
  /** The route that makes the service connect to the URL that this one takes, by its name (default: this one does). */
  connects?: string
  /** Fields of its body whose words are rights, so that nobody gives what they lack (default: by their names and words, where the route asks for no role or permission); `false`: none. */
  grants?: readonly string[] | false
  /** Who calls it is erased: nothing of what they wrote is stored any more. */
  erases?: boolean
  /** Each valid request sends a mail with a token in it. */
  mails?: boolean
  /** Its success is an event of the audit trail: of this type, or of any (default: true for what changes an object by right of a role or permission). */
  audit?: string | boolean
}

/** What the kit is told of one route. */
export interface RouteHints extends RoutePromises {
  /** The whole body of a valid request. A text or a Buffer is sent as it is. */
  body?: Made<unknown>
  /** The media type of that body (default: what the route declares). */
  type?: string
  query?: Made<Readonly<Record<string, unknown>>>
  headers?: Readonly<Record<string, string>>
  /** Ids for this route alone. */
  objects?: Objects
  /** Whether other people's objects may be reached here; by default they may not, unless a role or permission is asked for instead of the owner. */
  foreign?: 'allow' | 'deny'
  /** A text: no request is sent there at all. By name: none of these families or findings. With the reason, which is reported. */
  skip?: string | { readonly [Name in FamilyName | FindingId]?: string }
}

/** Who may call a route, as `config.access` writes it. */
export type PolicyAccess = 'public' | 'user' | {
  roles?: string | readonly string[]
  permissions?: string | readonly string[]
  via?: readonly string[]
  stepUp?: boolean | { maxAge?: number, factors?: string | readonly string[] }
  /** The objects of this route belong to somebody, and nobody else reaches them. */
  resource?: string
  action?: string
}

/** Who shares a budget: `caller` is the principal, or the address of nobody; `key` each key for itself; `plan` all callers of one plan. */
export type LimitPart = 'address' | 'caller' | 'key' | 'plan' | 'route'

/** What a policy file says of one route. What it leaves out is not attacked, and reported as such. */
export interface RoutePolicy extends RoutePromises {
  access?: PolicyAccess
  /** Roles that reach everybody's objects. */
  override?: string | readonly string[]
  /** JSON Schemas. */
  body?: object
  params?: object
  query?: object
  /** By status: `{ 200: { type: 'object', properties: … } }`. */
  answers?: Readonly<Record<string, object>> | 'raw'
  /** `['10/minute']` for an address, or with who shares it and what callers of each plan have. */
  limits?: readonly string[] | { windows: readonly string[], by?: LimitPart | readonly LimitPart[], plans?: Readonly<Record<string, readonly string[]>> } | false
  headers?: Readonly<Record<string, string | true>> | false
  /** What its body is read as (default `application/json`). */
  mediaType?: string
}

/** What came back. */
export interface Answer {
  status: number
  headers: Readonly<Record<string, string | string[] | undefined>>
  text: string
  /** Undefined where it is none. */
  json: unknown
}

/** A credential that must be refused. */
export type RefusedPrincipal = Principal & {
  /** Which one it is, for findings: `after the sign-out`. */
  what?: string
}

/** What a service that does not run the suite promises, or what one that does must promise at least. */
export interface Policy {
  /** `GET /orders/:orderId`. */
  routes: Readonly<Record<string, PolicyAccess | RoutePolicy>>
  /** Hosts that are answered; of others none. The first is the one that is asked. */
  hosts?: readonly string[]
  roles?: Readonly<Record<string, { inherits?: readonly string[], permissions?: readonly string[] }>>
  /** What every answer carries: a value, or `true` for any (default: `nosniff`, and something against framing); `false`: nothing. */
  headers?: Readonly<Record<string, string | true>> | false
  /** Refusals are problem details (default false). */
  problems?: boolean
  /** Values are refused that Ajv would coerce, and fields that it would drop (default false). */
  strict?: boolean
  /** Each 401 and 403 is an event of the audit trail (default false). */
  recordsRefusals?: boolean
}

/** One text, or many. */
export type Texts = string | Iterable<string> | AsyncIterable<string>

/** Whatever else is in it is text to the kit. */
export interface RecordedEvent {
  type: string
}

/**
 * What the kit may look at beside answers, where a team lets it. Each is asked for whenever it is needed, and answers all that there is by then: what waits to be written is
 * written before. What lacks a witness is reported as not applicable.
 */
export interface Witnesses {
  /** All text at rest: rows of a database, files. */
  stored?: () => Texts | Promise<Texts>
  /** Lines that were logged; a text of several lines is several. */
  logged?: () => Texts | Promise<Texts>
  /** Events of the audit trail; the newest twenty are enough, where an id or a time tells them apart. */
  recorded?: () => Iterable<RecordedEvent> | AsyncIterable<RecordedEvent> | Promise<Iterable<RecordedEvent> | AsyncIterable<RecordedEvent>>
  /** Mails that were sent, with whom they went to. */
  mailed?: () => Texts | Promise<Texts>
}

export const AttackOptions = Type.Object({
  over: Type.Optional(Type.Union([Type.Literal('inject'), Type.Literal('socket')], { description: '`socket`: by HTTP on a port of this machine, as clients do', default: 'inject' })),
  seed: Type.Optional(Type.Integer({ minimum: 0, maximum: 2 ** 32 - 1, description: 'Of everything that is chosen by chance: the same seed sends the same requests', default: 1 })),
  destructive: Type.Optional(Type.Boolean({ description: 'A service on another machine than this may be attacked with all that changes and deletes', default: false })),
  safe: Type.Optional(Type.Boolean({ description: 'Nothing is sent but GET, HEAD and OPTIONS; what changes something is not attacked', default: false })),
  only: Type.Optional(Type.Array(Type.String(), { minItems: 1, description: 'Routes, as `GET /orders/:orderId`, where not all are attacked' })),
  families: Type.Optional(Type.Array(Type.String(), { minItems: 1, description: 'Families of attacks, where not all are led' })),
  timeout: Type.Optional(Type.Integer({ minimum: 10, maximum: 60_000, description: 'Milliseconds after which an answer that does not end is read no further', default: 2000 })),
  largestBudget: Type.Optional(Type.Integer({ minimum: 1, maximum: 100_000, description: 'Requests that the attack on a limit may take at most; of larger budgets nothing is proven', default: 400 })),
  fields: Type.Optional(Type.Integer({ minimum: 1, maximum: 1000, description: 'Undeclared fields that are tried on each body, those of other schemas among them', default: 40 })),
  canaries: Type.Optional(Type.Array(Type.String({ minLength: 6 }), { description: 'Texts that you have planted where they must stay: hashes, secrets, private fields. No answer may hold them', default: [] })),
}, { additionalProperties: false })

export type AttackOptions = Static<typeof AttackOptions> & {
  /** Who calls; each by a name that findings and `objects` use. */
  principals?: Principals
  objects?: Objects
  /** Values of body and query by the name of the field, where what the schema allows is not enough: `{ orderId: () => … }`. */
  values?: Readonly<Record<string, Made<unknown>>>
  /** By `GET /orders/:orderId`. */
  routes?: Readonly<Record<string, RouteHints>>
  /** Credentials that must be refused on every guarded route, by what is wrong with them: `{ expired: { token }, revoked: { key } }`. */
  refused?: { readonly [Fault in 'garbage' | 'forged' | 'expired' | 'audience' | 'kind' | 'revoked']?: RefusedPrincipal | readonly RefusedPrincipal[] }
  /** Signs claims with the service's own key, so that tokens can be wrong in one thing alone: expired, for another audience. `header`: that of the right token, to be signed too. */
  sign?: (claims: Readonly<Record<string, unknown>>, header: Readonly<Record<string, unknown>>) => string | Promise<string>
  /**
   * For a service that answers 200 with an error inside (GraphQL, JSON-RPC): the status that an answer stands for, 401 where it says that nobody is signed in; nothing where its own
   * is meant. All that the kit says of statuses is said of this one.
   */
  statusOf?: (answer: Answer) => number | undefined
  /** Called after each request that changed something; then the functions of principals are asked again. */
  reset?: () => void | Promise<void>
  /** A policy, or the path of one in JSON. Needed where the application does not run the suite; with the suite it is what must hold at least. */
  policy?: Policy | string
  /** What may be looked at beside answers: what is stored, logged, recorded and mailed. */
  witnesses?: Witnesses
  /** Sent with every request, such as `{ host: 'api.example.com', 'x-forwarded-proto': 'https' }`. */
  headers?: Readonly<Record<string, string>>
}

export type Severity = 'critical' | 'high' | 'medium' | 'low'

export interface Finding {
  id: FindingId
  severity: Severity
  /** `GET /orders/:orderId`. */
  route: string
  /** By name; null where nobody was signed in. */
  principal: string | null
  expected: string
  got: string
  /** A command of bash that shows it; empty where no request does. Credentials are variables, named after their principal: `$ADA_AUTHORIZATION`. */
  reproduce: string
  /** Which one of several of this kind, on this route. */
  way?: string
}

export interface Check {
  id: FindingId
  family: FamilyName
  /** `unproven`: it was applicable and could not be decided. */
  state: 'held' | 'broken' | 'not applicable' | 'skipped' | 'unproven'
  /** How often it was tried. */
  tried: number
  found: number
  /** Routes on which it could not be decided: see `Report.unproven`. */
  unproven: number
  /** Why it was not tried. */
  reason?: string
}

export interface Report {
  findings: readonly Finding[]
  checks: readonly Check[]
  /** What was switched off, and why. */
  skipped: readonly { route: string, what: string, reason: string }[]
  /** What could not be decided, and why: a route that never succeeded proves nothing by its refusals. */
  unproven: readonly { route: string, what: string, reason: string }[]
  /** Routes that were attacked. */
  routes: readonly string[]
  requests: number
  seed: number
  /** Milliseconds. */
  duration: number
  /** Why the run ended before its time: the service was gone, or answered nobody any more. What was not tried by then is unproven. */
  aborted?: string
}
