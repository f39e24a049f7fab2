/** Settings of several sources, which change while the service runs. */
import type { Static, TObject, TProperties } from '@sinclair/typebox'
import { jittered, SYSTEM_CLOCK, type Clock } from './clock.js'
import { SettingsRefused, SettingsUnavailable, SourceFault } from './errors.js'
import type { Reading, Source } from './source.js'
import { concealing, readValues, saysProduction, type Lookup } from './values.js'

export interface LoadOptions {
  /** In their order: the first that has a variable wins. */
  sources: readonly Source[]
  /** As for `settings`: default by `NODE_ENV`. What it was at boot it is for good. */
  production?: boolean
  /** Milliseconds after which all sources are read again, half of it to all of it; false for never by itself (default 300000). */
  refresh?: number | false
  /** For tests. */
  clock?: Clock
}

/** Something is wrong while the service runs: it goes on with what it has. No values are in it. */
export interface SettingsFault {
  /**
   * `unavailable`: a source does not answer, what was read last is good for a while. `expired`: that while is over. `refused`: what was read
   * fails the schema or is weak; nothing of it was taken over. `listener`: who was told of a change failed, and is told again after the next
   * reading.
   */
  kind: 'unavailable' | 'expired' | 'refused' | 'listener'
  message: string
  /** Variables, where some are concerned. */
  names: readonly string[]
}

export interface SourceStatus {
  name: string
  /** Milliseconds since the epoch, when it was read last. */
  readAt: number
  /** Why it was not read since. */
  problem: string | null
  /** What was read last is older than the source allows. */
  isExpired: boolean
}

export interface LoadedSettings<Values extends object> {
  /** As they are now, frozen: after a change this is another object. */
  readonly values: Values
  /** Reads all sources now; resolves with the variables that changed, once those who listen were told. Never rejects. */
  refresh: () => Promise<string[]>
  /**
   * Calls `listener` when one of these variables has changed, and again after the next reading where it threw or rejected. Returns the function
   * that ends it. Nothing is read until what it returns has settled: bound its time, and do not await `refresh` in it.
   */
  onChange: (names: readonly (keyof Values & string)[], listener: (values: Values, changed: readonly string[]) => unknown) => () => void
  /** Calls `listener` when something is wrong. Without one it is a warning of the process. */
  onFault: (listener: (fault: SettingsFault) => void) => () => void
  /** How the sources are, for probes. */
  status: () => SourceStatus[]
  /** Ends refreshes and renewals; Vault's own token is revoked. The values stay. */
  close: () => Promise<void>
}

interface Listener<Values> {
  names: ReadonlySet<string>
  listener: (values: Values, changed: readonly string[]) => unknown
  /** What it has still to be told. */
  pending: Set<string>
}

/**
 * Reads settings from several sources, and again while the service runs.
 *
 * A new reading is taken over whole or not at all, so that what belongs together stays together.
 *
 * @throws SettingsRefused that lists every fault at once
 * @throws SettingsUnavailable where a source cannot be read
 */
export async function loadSettings<Properties extends TProperties> (schema: TObject<Properties>, options: LoadOptions): Promise<LoadedSettings<Static<TObject<Properties>>>> {
  type Values = Static<TObject<Properties>>
  const { sources, refresh: every = 300_000, clock = SYSTEM_CLOCK } = options
  if (!Array.isArray(sources) || sources.length === 0 || sources.some(one => typeof one?.read !== 'function')) {
    throw new SettingsRefused('settings: sources: must be a list of env(), dotenv(), files(), vault() and the like')
  }
  if (every !== false && !(Number.isInteger(every) && every >= 1000)) throw new SettingsRefused('settings: refresh: must be 1000 ms or more, or false')
  const names = Object.keys(schema.properties)
  const listeners = new Set<Listener<Values>>()
  const faultListeners = new Set<(fault: SettingsFault) => void>()
  const kept = new Map<Source, { reading: Reading, status: SourceStatus }>()
  let isBooted = false
  let isClosed = false
  let cancel = () => {}

  for (const source of sources) source.open?.(() => { if (isBooted) refresh(false).catch(() => {}) }, (message: string) => { tell('unavailable', message) })
  let isProduction: boolean
  let values: Values
  try {
    const { textOf, faults } = await readAll(true, false)
    isProduction = options.production ?? saysProduction(textOf)
    const read = readValues(schema, textOf, isProduction)
    const all = [...new Set([...faults, ...read.faults.map(({ message }) => message)])]
    if (all.length > 0) throw new SettingsRefused(`Settings are refused:\n  ${all.join('\n  ')}`)
    values = concealing(read.values, schema.properties) as Values
  } catch (error) {
    await close()
    throw error
  }
  isBooted = true
  schedule()

  /** The texts of all sources, the first that has one first. At boot a source that fails is the end; later its last reading goes on. */
  async function readAll (isBoot: boolean, isForced: boolean): Promise<{ textOf: Lookup, faults: string[] }> {
    const texts: Reading['texts'][] = []
    const faults: string[] = []
    // An empty variable is one that is not set.
    const textOf: Lookup = name => texts.find(one => Object.hasOwn(one, name) && one[name])?.[name]
    for (const source of sources) {
      const before = kept.get(source)
      let reading: Reading
      try {
        reading = await source.read(names, { earlier: textOf, isProduction: isBoot ? options.production ?? saysProduction(textOf) : isProduction, isForced })
        const status = { name: source.name, readAt: reading.stale === undefined ? clock.now() : before?.status.readAt ?? clock.now(), problem: reading.stale ?? null, isExpired: false }
        if (reading.stale !== undefined) tell('unavailable', `${source.name}: ${reading.stale}; what was read last goes on`)
        kept.set(source, { reading, status })
      } catch (error) {
        const isOurs = error instanceof SourceFault || error instanceof SettingsUnavailable || error instanceof SettingsRefused
        const problem = isOurs ? error.message : `it failed (${(error as Error)?.name ?? 'with something else than an error'})`
        const message = problem.startsWith(source.name) ? problem : `${source.name}: ${problem}`
        if (before === undefined) throw new SettingsUnavailable(`Settings cannot be read: ${message}`)
        reading = before.reading
        kept.set(source, { reading, status: { ...before.status, problem: message, isExpired: true } })
        tell('expired', message)
      }
      texts.push(reading.texts)
      faults.push(...reading.faults ?? [])
    }
    return { textOf, faults }
  }

  async function readAgain (isForced: boolean): Promise<string[]> {
    if (isClosed) return []
    const { textOf, faults } = await readAll(false, isForced)
    if (isClosed) return []
    const read = readValues(schema, textOf, isProduction)
    const all = [...new Set([...faults, ...read.faults.map(({ message }) => message)])]
    if (all.length > 0) {
      tell('refused', `New settings are refused, the old ones stay: ${all.join('; ')}`, read.faults.map(({ name }) => name))
      await tellListeners([])
      return []
    }
    const before = values as Record<string, unknown>
    const changed = names.filter(name => before[name] !== read.values[name])
    if (changed.length > 0) values = concealing(read.values, schema.properties) as Values
    await tellListeners(changed)
    return changed
  }

  /** One at a time; who asks while one runs gets the next one, because the one that runs may have read before. */
  let running: Promise<string[]> | null = null
  let next: Promise<string[]> | null = null
  let isNextForced = false
  function refresh (isForced: boolean): Promise<string[]> {
    if (running === null) {
      running = readAgain(isForced).finally(() => { running = null })
      return running
    }
    isNextForced ||= isForced
    next ??= running.then(() => {
      const wasForced = isNextForced
      next = null
      isNextForced = false
      return refresh(wasForced)
    })
    return next
  }

  async function tellListeners (changed: readonly string[]): Promise<void> {
    for (const one of listeners) {
      for (const name of changed) if (one.names.has(name)) one.pending.add(name)
      if (one.pending.size === 0) continue
      const told = [...one.pending]
      try {
        await one.listener(values, told)
        one.pending.clear()
      } catch (error) {
        // What it says may hold what it was given.
        const { name = 'it threw something else than an error', code } = (error ?? {}) as { name?: string, code?: unknown }
        tell('listener', `A change of ${told.join(', ')} was not taken over (${typeof code === 'string' ? code : name}); it is told again after the next reading`, told)
      }
    }
  }

  function tell (kind: SettingsFault['kind'], message: string, concerned: readonly string[] = []): void {
    if (isClosed) return
    const fault = { kind, message, names: concerned }
    if (faultListeners.size === 0) process.emitWarning(message, 'SettingsWarning')
    for (const listener of faultListeners) {
      try {
        listener(fault)
      } catch {
        process.emitWarning(message, 'SettingsWarning')
      }
    }
  }

  function schedule (): void {
    if (every === false || isClosed) return
    cancel = clock.after(jittered(every), () => { refresh(false).catch(() => {}).finally(schedule) })
  }

  async function close (): Promise<void> {
    isClosed = true
    cancel()
    listeners.clear()
    await Promise.all(sources.map(source => source.close?.()))
  }

  return {
    get values () { return values },
    refresh: () => refresh(true),
    onChange (wanted, listener) {
      const unknown = wanted.filter(name => !names.includes(name))
      if (unknown.length > 0 || wanted.length === 0) throw new SettingsRefused(`settings: onChange: ${unknown.join(', ') || 'nothing'} is no setting of the schema`)
      const one: Listener<Values> = { names: new Set(wanted), listener, pending: new Set() }
      listeners.add(one)
      return () => { listeners.delete(one) }
    },
    onFault (listener) {
      faultListeners.add(listener)
      return () => { faultListeners.delete(listener) }
    },
    status: () => [...kept.values()].map(({ status }) => ({ ...status })),
    close,
  }
}
