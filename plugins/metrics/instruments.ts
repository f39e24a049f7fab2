/**
 * Instruments: numbers that are added to while requests wait, and made into samples when somebody asks.
 *
 * Those of prom-client hash their labels at every observation; these hand out a place once, and adding to it is an addition.
 * The registry is prom-client's all the same: it asks for samples, and writes the text.
 */

interface Sample { metricName?: string, labels: Record<string, string | number>, value: number }
interface Samples { name: string, help: string, type: 'counter' | 'gauge' | 'histogram', values: Sample[] }
type Labels = Readonly<Record<string, string>>

/** Places of one instrument; what comes later shares one, whose labels are all `other`. Whoever asks costs memory and disk with every one. */
const MAX_PLACES = 5000

/** The places of an instrument, by their labels. */
class Places<Place> {
  readonly #places = new Map<string, { labels: Labels, place: Place }>()
  readonly #make: () => Place
  readonly #max: number

  constructor (make: () => Place, max: number) {
    this.#make = make
    this.#max = max
  }

  of (labels: Labels): Place {
    const known = this.#places.get(keyOf(labels))
    if (known !== undefined) return known.place
    const isFull = this.#places.size >= this.#max
    const names = isFull ? Object.fromEntries(Object.keys(labels).map(name => [name, 'other'])) : labels
    const other = isFull ? this.#places.get(keyOf(names)) : undefined
    if (other !== undefined) return other.place
    const place = this.#make()
    this.#places.set(keyOf(names), { labels: names, place })
    return place
  }

  [Symbol.iterator] () { return this.#places.values() }
}

function keyOf (labels: Labels): string {
  return JSON.stringify(Object.values(labels))
}

/** A counter. */
export class Tally {
  readonly type = 'counter'
  readonly name: string
  readonly #help: string
  readonly #places: Places<{ value: number }>

  constructor (name: string, help: string, max = MAX_PLACES) {
    this.name = name
    this.#help = help
    this.#places = new Places(() => ({ value: 0 }), max)
  }

  /** Add to its `value`. */
  of (labels: Labels): { value: number } { return this.#places.of(labels) }

  get (): Samples {
    return { name: this.name, help: this.#help, type: this.type, values: Array.from(this.#places, ({ labels, place: { value } }) => ({ labels, value })) }
  }
}

/** What is read when somebody asks. */
export class Level {
  readonly type = 'gauge'
  readonly name: string
  readonly #help: string
  readonly #read: () => number | null

  constructor (name: string, help: string, read: () => number | null) {
    this.name = name
    this.#help = help
    this.#read = read
  }

  get (): Samples {
    const value = this.#read()
    return { name: this.name, help: this.#help, type: this.type, values: value === null ? [] : [{ labels: {}, value }] }
  }
}

/** Durations in buckets. */
export class Distribution {
  readonly type = 'histogram'
  readonly name: string
  readonly #help: string
  readonly #bounds: readonly number[]
  readonly #places: Places<Durations>

  constructor (name: string, help: string, bounds: readonly number[], max = MAX_PLACES) {
    this.name = name
    this.#help = help
    this.#bounds = bounds
    this.#places = new Places(() => new Durations(bounds), max)
  }

  of (labels: Labels): Durations { return this.#places.of(labels) }

  get (): Samples {
    const values: Sample[] = []
    for (const { labels, place } of this.#places) {
      let below = 0
      this.#bounds.forEach((bound, i) => {
        below += place.counts[i]!
        values.push({ metricName: `${this.name}_bucket`, labels: { ...labels, le: bound }, value: below })
      })
      const count = below + place.counts[this.#bounds.length]!
      values.push({ metricName: `${this.name}_bucket`, labels: { ...labels, le: '+Inf' }, value: count })
      values.push({ metricName: `${this.name}_sum`, labels, value: place.sum }, { metricName: `${this.name}_count`, labels, value: count })
    }
    return { name: this.name, help: this.#help, type: this.type, values }
  }
}

class Durations {
  readonly #bounds: readonly number[]
  /** One a bucket, and one for what is above all of them. */
  readonly counts: Float64Array
  sum = 0

  constructor (bounds: readonly number[]) {
    this.#bounds = bounds
    this.counts = new Float64Array(bounds.length + 1)
  }

  observe (seconds: number): void {
    const bounds = this.#bounds
    let i = 0
    while (i < bounds.length && seconds > bounds[i]!) i += 1
    this.counts[i]! += 1
    this.sum += seconds
  }
}

export type { Durations }
