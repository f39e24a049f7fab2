/** What the doctor says of one thing that it looked at. */
export interface Check {
  /** What was looked at: `secrets`, `redis`. */
  about: string
  state: 'good' | 'warning' | 'bad' | 'skipped'
  /** Never a value of a setting. */
  message: string
}

export const good = (about: string, message: string): Check => ({ about, state: 'good', message })
export const warning = (about: string, message: string): Check => ({ about, state: 'warning', message })
export const bad = (about: string, message: string): Check => ({ about, state: 'bad', message })
export const skipped = (about: string, message: string): Check => ({ about, state: 'skipped', message })

/** In production a fault, before it a warning. */
export const grave = (isProduction: boolean, about: string, message: string): Check => isProduction ? bad(about, message) : warning(about, message)
