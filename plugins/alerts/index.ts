/**
 * Alerts: somebody is told while an attack is going on, and not by reading a log afterwards.
 *
 * Threat: attacks that are recorded and that nobody notices (OWASP A09:2021, ASVS 16.3): each event alone looks harmless.
 * Defence: rules over security events, counted exactly in a window by address, account or principal, by all processes together where state is shared; told once and then quiet
 * for a while, to the log, to a signed webhook and to a function. Counting waits for no request and no request for it; what attackers multiply is bounded.
 * Not covered: what no event is recorded for. Where shared state is away each process counts for itself, and may tell what another tells too.
 */
import { randomUUID } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import { createError } from '@fastify/error'
import { Type, type Static } from '@sinclair/typebox'
import fp from 'fastify-plugin'
import type { SecurityEvent } from '../events.js'
import { measured } from '../measured.js'
import { checkKeys, checkOptions } from '../options.js'
import type { Alert } from './alert.js'
import { Counting } from './counting.js'
import { AlertRule, BuiltInRules, builtInRules, settleRule, type SettledRule } from './rules.js'
import { Webhook } from './webhook.js'

export type { Alert } from './alert.js'
export type { AlertRule, AlertSubject, BuiltInRule } from './rules.js'

declare module 'fastify' {
  interface FastifyInstance {
    /** Rules over security events, and who is told. */
    alerts: Alerts
  }
}

/** The instance decorator `app.alerts`. */
export interface Alerts {
  /** Those in force. */
  readonly rules: readonly SettledRule[]
  /** Once all that was recorded before is counted, and told to the log and the function; what is on its way to the webhook is not waited for. */
  settled: () => Promise<void>
}

/** An option of the alerts concern is wrong. */
export const AlertsMisconfigured = createError<[string]>('FST_BASTION_ALERTS_MISCONFIGURED', '%s', 500, TypeError)

const WebhookOptions = Type.Object({
  url: Type.String({ description: 'https, or http to this machine' }),
  timeout: Type.Optional(Type.Integer({ minimum: 1, maximum: 60_000, description: 'Milliseconds that an attempt may take' })),
  attempts: Type.Optional(Type.Integer({ minimum: 1, maximum: 20 })),
  backoff: Type.Optional(Type.Integer({ minimum: 1, maximum: 60_000, description: 'Milliseconds before the second attempt, doubled before each that follows' })),
  queue: Type.Optional(Type.Integer({ minimum: 1, maximum: 10_000, description: 'Alerts that wait' })),
}, { additionalProperties: false })
export const AlertsOptions = Type.Object({
  builtIn: Type.Optional(Type.Unsafe<BuiltInRules>({
    ...BuiltInRules, description: 'Rules of the suite by their name: `{ mass_export: { threshold: 500 }, probing: false }`; what is not named is as it comes', default: {},
  })),
  rules: Type.Optional(Type.Unsafe<readonly AlertRule[]>({ ...Type.Array(AlertRule), description: 'Your own', default: [] })),
  adminRoles: Type.Optional(Type.Array(Type.String({ minLength: 1 }), { minItems: 1, description: 'Roles that `privilege_change` watches (`details.to` of permission_change)', default: ['admin'] })),
  log: Type.Optional(Type.Boolean({ description: 'One line at `fatal` for each alert', default: true })),
  webhook: Type.Optional(Type.Unsafe<Static<typeof WebhookOptions> & {
    /** 32 bytes or more, or a list while one replaces another: receivers write it as `whsec_` and its base64. */
    key: Buffer | readonly Buffer[]
  }>(Type.Object({}, {
    description: '`url` (https, or http to this machine) and `key` (32 bytes or more, or a list); `timeout` (5000 ms an attempt), `attempts` (8), `backoff` (1000 ms, doubled each time), `queue` (100 alerts)',
  }))),
  drainMs: Type.Optional(Type.Integer({ minimum: 0, maximum: 60_000, description: 'Milliseconds that closing waits for the webhook', default: 2000 })),
}, { additionalProperties: false })
export type AlertsOptions = Static<typeof AlertsOptions> & {
  /**
   * 32 bytes or more, the same in all processes: without it each process has other hashes of the names that are typed at sign-in, and counts guesses at a name for itself. Where `audit` is
   * there, its key holds.
   */
  nameKey?: Buffer
  /** Is told every alert, with the event that reached the threshold. Nobody waits for it; what it throws is logged. */
  notify?: (alert: Alert, event: SecurityEvent) => unknown
  /** Milliseconds since the epoch, for what this process counts alone; for tests. */
  now?: () => number
}

/** Of this concern's own making: a rule over them would raise itself. */
const OWN: ReadonlySet<string> = new Set(['alert_raised', 'alert_undelivered'])
const MINUTE = 60_000
/** Of one rule, in one process. */
const MAX_PER_MINUTE = 20
const LOOPBACK = /^(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])$/

async function alerts (app: FastifyInstance, options: AlertsOptions): Promise<void> {
  const { notify, nameKey, now = Date.now, ...plain } = options
  checkOptions(AlertsOptions, plain, 'alerts', AlertsMisconfigured)
  if (notify !== undefined && typeof notify !== 'function') throw new AlertsMisconfigured('alerts: notify: must be a function')
  const [nameHash] = nameKey === undefined ? [] : checkKeys(nameKey, 'alerts: nameKey', AlertsMisconfigured)
  if (nameHash !== undefined && !app.hasDecorator('audit')) app.events.keyNames(nameHash)
  const { builtIn = {}, rules: own = [], adminRoles = ['admin'], log = true, drainMs = 2000 } = plain
  const rules = [...builtInRules(builtIn, adminRoles), ...own].map(settleRule)
  checkRules(rules)
  if (!log && plain.webhook === undefined && notify === undefined) throw new AlertsMisconfigured('alerts: nobody is told: log, webhook or notify is needed')
  const pace = new Pace(now)
  /** The last of each rule that was not told yet. */
  const withheld = new Map<string, { alert: Alert, event: SecurityEvent, timer: NodeJS.Timeout }>()
  const webhook = plain.webhook === undefined ? null : webhookOf(plain.webhook)
  const counting = new Counting({
    rules,
    state: app.state,
    now,
    raise,
    failed (error) { app.log.error({ err: error }, 'an event was not counted for alerts') },
    overran: measured(app).counter('bastion_alerts_uncounted_total', 'Events that were not counted for alerts, because too many others waited to be'),
  })
  const stop = app.events.listen(function countForAlerts (event) {
    if (!OWN.has(event.type)) counting.see(event)
  })

  app.decorate('alerts', { rules, settled: () => counting.settled() })
  if (webhook !== null) measured(app).gauge('bastion_alerts_waiting', 'Alerts on their way to the webhook', () => webhook.waiting)
  app.addHook('onClose', async function tellWhatIsLeft () {
    app.events.flush() // what is counted there and not told yet counts here too
    stop()
    await counting.settled()
    for (const rule of [...withheld.keys()]) tellWithheld(rule)
    await webhook?.close(drainMs)
  })

  function raise ({ name, severity, by, threshold, windowMs }: SettledRule, subject: string, event: SecurityEvent): void {
    // What a client wrote goes to no receiver: a filter before it would hold the alert up because of the attack it tells of.
    const { details, userAgent, ...last } = event
    const alert: Alert = { id: randomUUID(), time: new Date(now()).toISOString(), rule: name, severity, by: typeof by === 'function' ? 'function' : by, subject, threshold, windowMs, untold: 0, last }
    // Each of them stands there, also one that many others hide: who made those cannot have it go unseen.
    app.events.record('alert_raised', null, { alert: alert.id, rule: name, severity, by: alert.by, subject })
    const untold = pace.take(name)
    if (untold === null) withhold(alert, event)
    else deliver({ ...alert, untold }, event)
  }

  function deliver (alert: Alert, event: SecurityEvent): void {
    clearTimeout(withheld.get(alert.rule)?.timer)
    withheld.delete(alert.rule)
    if (log) app.log.fatal({ alert }, `alert: ${alert.rule}`)
    webhook?.send(alert)
    tell(alert, event).catch(error => { app.log.error({ err: error, alert: alert.id }, 'notify of alerts failed') })
  }

  /** Told later, with how many there were: perhaps nothing follows that would say so. */
  function withhold (alert: Alert, event: SecurityEvent): void {
    const timer = withheld.get(alert.rule)?.timer ?? setTimeout(() => tellWithheld(alert.rule), MINUTE).unref()
    withheld.set(alert.rule, { alert, event, timer })
  }

  function tellWithheld (rule: string): void {
    const { alert, event } = withheld.get(rule)!
    deliver({ ...alert, untold: pace.begin(rule) - 1 }, event)
  }

  async function tell (alert: Alert, event: SecurityEvent): Promise<void> {
    await notify?.(alert, event)
  }

  function webhookOf (given: NonNullable<AlertsOptions['webhook']>): Webhook {
    const { key, ...rest } = given
    checkOptions(WebhookOptions, rest, 'alerts: webhook', AlertsMisconfigured)
    const { url, timeout = 5000, attempts = 8, backoff = 1000, queue = 100 } = rest
    const keys = checkKeys(key, 'alerts: webhook: key', AlertsMisconfigured)
    return new Webhook({ url: checkedUrl(url), keys, timeout, attempts, backoff, queue, now, gaveUp: giveUp })
  }

  /** Of the URL nothing is told: it may be a secret itself. */
  function giveUp ({ id, rule }: Alert, reason: string): void {
    app.events.record('alert_undelivered', null, { alert: id, rule, reason })
  }
}

interface Paced { since: number, told: number, untold: number }

/** An attack from ten thousand addresses must not be ten thousand alerts. */
class Pace {
  readonly #now: () => number
  readonly #rules = new Map<string, Paced>()

  constructor (now: () => number) { this.#now = now }

  /** How many of this rule were not told since the last that was; null where this one is not told either. */
  take (name: string): number | null {
    const now = this.#now()
    let rule = this.#rules.get(name)
    if (rule === undefined) this.#rules.set(name, rule = { since: now, told: 0, untold: 0 })
    if (now - rule.since >= MINUTE || now < rule.since) Object.assign(rule, { since: now, told: 0 })
    if (rule.told >= MAX_PER_MINUTE) {
      rule.untold += 1
      return null
    }
    return this.#tell(rule)
  }

  /** A minute of this rule begins now; how many were not told. */
  begin (name: string): number {
    const rule = this.#rules.get(name)!
    Object.assign(rule, { since: this.#now(), told: 0 })
    return this.#tell(rule)
  }

  #tell (rule: Paced): number {
    const { untold } = rule
    rule.told += 1
    rule.untold = 0
    return untold
  }
}

/** @throws AlertsMisconfigured */
function checkRules (rules: readonly SettledRule[]): void {
  const names = new Set<string>()
  for (const { name, events, by, distinct, threshold } of rules) {
    if (names.has(name)) throw new AlertsMisconfigured(`alerts: rules: ${name}: there are two of this name`)
    names.add(name)
    if (events !== '*' && events.some(type => OWN.has(type))) throw new AlertsMisconfigured(`alerts: rules: ${name}: alerts are no events for alerts`)
    if (distinct !== undefined && (distinct === by || distinct === 'all')) throw new AlertsMisconfigured(`alerts: rules: ${name}: distinct: there is never more than one ${distinct}`)
    if (distinct !== undefined && threshold === 1) throw new AlertsMisconfigured(`alerts: rules: ${name}: distinct: a threshold of 1 counts nothing`)
  }
}

/** @throws AlertsMisconfigured, without the URL: it may be a secret */
function checkedUrl (text: string): string {
  const url = URL.canParse(text) ? new URL(text) : null
  if (url === null || url.username !== '' || url.password !== '') throw new AlertsMisconfigured('alerts: webhook: url: must be a URL without credentials')
  if (url.protocol !== 'https:' && !(url.protocol === 'http:' && LOOPBACK.test(url.hostname))) throw new AlertsMisconfigured('alerts: webhook: url: must be https, or http to this machine')
  return url.href
}

export default fp(alerts, { fastify: '5.x', name: 'bastion-alerts', dependencies: ['bastion-events', 'bastion-state'] })
