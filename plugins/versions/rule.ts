/** What a route says of its age, checked at boot and made into what is sent. */
import { Type } from '@sinclair/typebox'
import { checkOptions } from '../options.js'
import type { PlannedRoute } from '../plan/index.js'
import { VersionsMisconfigured } from './errors.js'

export interface VersionRule {
  /** Since when, or from when on, nobody should begin to use it: a day (`2026-01-01`, from its first moment in UTC), a time with its zone, or a Date. `true`: at the latest since this process started. */
  deprecated?: true | string | Date
  /** From when on it answers 410. */
  sunset?: string | Date
  /** What to use instead: a path of this service, with the parameters of this route if it likes (`/v2/users/:userId`), or a whole URL. */
  successor?: string
  /** It answers 410 from now on. */
  removed?: true
}

/** A rule as it is asked on each request; times in milliseconds since the epoch. */
export interface CompiledVersion {
  deprecated: number | null
  /** Infinity: never. */
  goneFrom: number
  sunset: number | null
  successor: string | null
}

const DAY = /^(\d{4}-\d{2}-\d{2})(?:T\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?(?:Z|[+-]\d{2}:\d{2}))?$/
/** A path of this service, or a URL; no character in it that could end the `<…>` around it (RFC 8288, 3). */
const TARGET = /^(?:https?:\/\/[^/?#<>"\\^`{|}\s]|\/(?![/\\]))[!#-;=?-[\]_a-z~]*$/
/** Where a parameter is named. */
export const PARAMETER = /:([A-Za-z_]\w*)/g

const Moment = Type.Union([Type.String(), Type.Date()])
const Form = Type.Object({
  deprecated: Type.Optional(Type.Union([Type.Literal(true), Moment])),
  sunset: Type.Optional(Moment),
  successor: Type.Optional(Type.String()),
  removed: Type.Optional(Type.Literal(true)),
}, { additionalProperties: false })

/** @throws VersionsMisconfigured */
export function compileVersion (route: PlannedRoute, given: unknown, now: number): CompiledVersion {
  checkOptions(Form, given, 'version', VersionsMisconfigured)
  const { deprecated, sunset: end, successor = null, removed = false } = given as VersionRule
  if (deprecated === undefined && end === undefined && !removed) throw new VersionsMisconfigured('version: says nothing: write deprecated, sunset or removed')
  const sunset = end === undefined ? null : timeOf('sunset', end)
  const since = deprecated === undefined ? null : deprecated === true ? Math.min(now, sunset ?? now) : timeOf('deprecated', deprecated)
  if (since !== null && sunset !== null && sunset < since) throw new VersionsMisconfigured('version: sunset: lies before deprecated (RFC 9745, 4)')
  if (removed && sunset !== null && sunset > now) throw new VersionsMisconfigured('version: removed: its sunset still lies ahead: leave out one of both')
  if (successor !== null) checkSuccessor(route, successor)
  return { deprecated: since, sunset, successor, goneFrom: removed ? -Infinity : sunset ?? Infinity }
}

/** Milliseconds; a day begins with its first moment in UTC. */
function timeOf (name: string, value: string | Date): number {
  const time = value instanceof Date ? value.getTime() : DAY.test(value) ? Date.parse(value) : NaN
  // 30 February is parsed as the first days of March.
  const [, day] = typeof value === 'string' ? DAY.exec(value) ?? [] : []
  const isDay = day === undefined || (!Number.isNaN(Date.parse(day)) && new Date(day).toISOString().startsWith(day))
  if (Number.isNaN(time) || time < 0 || !isDay) throw new VersionsMisconfigured(`version: ${name}: ${JSON.stringify(value)} is no date such as 2026-12-31 or 2026-12-31T12:00:00Z`)
  return time
}

function checkSuccessor ({ url }: PlannedRoute, successor: string): void {
  if (!TARGET.test(successor)) throw new VersionsMisconfigured(`version: successor: ${JSON.stringify(successor)} is neither a path such as /v2/users nor a URL`)
  if (!successor.startsWith('/')) return
  const own = new Set([...url.matchAll(PARAMETER)].map(([, name]) => name))
  const unknown = [...successor.matchAll(PARAMETER)].find(([, name]) => !own.has(name))
  if (unknown !== undefined) throw new VersionsMisconfigured(`version: successor: this route has no parameter ${unknown[0]}`)
}
