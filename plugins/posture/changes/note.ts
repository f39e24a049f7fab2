/** What became of one control. */
export interface Note {
  is: 'weaker' | 'stronger'
  /** One line that a reviewer understands without the code beside it; the route stands before it. */
  message: string
}

export const weaker = (message: string): Note => ({ is: 'weaker', message })
export const stronger = (message: string): Note => ({ is: 'stronger', message })

/** What is in one list and not in the other. */
export function without<Item> (list: readonly Item[], others: readonly Item[]): Item[] {
  return list.filter(item => !others.includes(item))
}

export function listOf<Item> (value: Item | readonly Item[] | undefined | null): Item[] {
  return value === undefined || value === null ? [] : [value].flat() as Item[]
}

/** Of values in an order, the strongest first: what is not among them is the weakest. */
export function ranked (order: readonly string[], before: string, after: string, say: (before: string, after: string) => string): Note[] {
  const [was, is] = [before, after].map(value => order.includes(value) ? order.indexOf(value) : order.length) as [number, number]
  if (before === after) return []
  return [is < was ? stronger(say(before, after)) : weaker(say(before, after))]
}
