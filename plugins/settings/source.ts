/** Where settings come from: the port, and what is at hand without waiting for anybody. */
import { readFile } from 'node:fs/promises'
import { parseEnv } from 'node:util'
import type { Lookup } from './values.js'

export interface ReadingContext {
  /** What the sources before it have. */
  earlier: Lookup
  isProduction: boolean
  /** Somebody asked for it now: what is kept from before is not good enough. */
  isForced: boolean
}

export interface Reading {
  /** Texts by the name of the variable; there may be more than were asked for. One that is empty is not set. */
  texts: Record<string, string | undefined>
  /** What is wrong: `NAME: what`, never a value. Boot stops; a refresh changes nothing. */
  faults?: readonly string[]
  /** Why these texts are older than they should be. */
  stale?: string
}

/** A place where settings are kept. One of your own is an object like this. */
export interface Source {
  /** What messages call it. */
  name: string
  /** Reads these variables. What it throws is told by the message of a `SourceFault`, else by its name alone. */
  read: (names: readonly string[], context: ReadingContext) => Promise<Reading> | Reading
  /** Called once, before anything is read: `wake` has it read again, `tell` says what is wrong meanwhile. */
  open?: (wake: () => void, tell: (message: string) => void) => void
  close?: () => Promise<void>
}

/** The environment. */
export function env (variables: Record<string, string | undefined> = process.env): Source {
  return { name: 'the environment', read: () => ({ texts: variables }) }
}

/** A `.env` file; one that is missing is no fault. */
export function dotenv (path = '.env'): Source {
  return {
    name: path,
    async read () {
      try {
        return { texts: parseEnv(await readFile(path, 'utf8')) as Record<string, string> }
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException
        return code === 'ENOENT' ? { texts: {} } : { texts: {}, faults: [`${path} cannot be read (${code ?? 'it is no text'})`] }
      }
    },
  }
}
