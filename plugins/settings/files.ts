/**
 * Secrets that lie in files: `NAME_FILE` names one, and Docker and Kubernetes mount a folder of them.
 *
 * A file is opened once, and what was opened is what is judged and read. One newline at its end is not of the secret.
 */
import { constants } from 'node:fs'
import { open, type FileHandle } from 'node:fs/promises'
import { join } from 'node:path'
import { Type, type Static } from '@sinclair/typebox'
import { checkOptions } from '../options.js'
import { SettingsRefused } from './errors.js'
import type { Source } from './source.js'

export const FilesOptions = Type.Object({
  folder: Type.Optional(Type.Union([Type.String({ minLength: 1 }), Type.Literal(false)], {
    default: '/run/secrets',
    description: 'Where files are named as the variables are, or the same in small letters. A folder that is missing is no fault; false for none',
  })),
  maxBytes: Type.Optional(Type.Integer({ minimum: 1, maximum: 1_048_576, default: 65_536, description: 'Of one file' })),
  forbidden: Type.Optional(Type.Integer({
    minimum: 0,
    maximum: 0o777,
    default: 0o022,
    description: 'Bits that the mode of a file must not have. By default: nobody but its owner may write it. 0o077 (63) where nobody else may read it either; Docker mounts 0444 and Kubernetes 0644 unless told otherwise',
  })),
}, { additionalProperties: false })
export type FilesOptions = Static<typeof FilesOptions>

/** `NAME_FILE` in the environment or whatever else stands before it, then the folder of the orchestrator. `NAME` and `NAME_FILE` at once is a fault. */
export function files (options: FilesOptions = {}): Source {
  checkOptions(FilesOptions, options, 'settings: files', SettingsRefused)
  const { folder = '/run/secrets', maxBytes = 65_536, forbidden = 0o022 } = options

  /** The text of a file, or what is wrong with it; null where there is none. */
  async function textOf (path: string): Promise<{ text: string } | { fault: string } | null> {
    let file: FileHandle | undefined
    try {
      // A pipe would have it wait for ever.
      file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
      const about = await file.stat()
      if (!about.isFile()) return { fault: 'is no file' }
      if (about.size > maxBytes) return { fault: `has more than ${maxBytes} bytes` }
      const mode = about.mode & forbidden
      if (mode !== 0 && process.platform !== 'win32') {
        return { fault: `has mode ${(about.mode & 0o777).toString(8)}: take ${mode.toString(8).padStart(3, '0')} away from others than its owner (chmod)` }
      }
      const bytes = Buffer.alloc(maxBytes + 1)
      const { bytesRead } = await file.read(bytes, 0, bytes.length, 0)
      if (bytesRead > maxBytes) return { fault: `has more than ${maxBytes} bytes` }
      const text = new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(0, bytesRead)).replace(/\r?\n$/, '')
      if (text.includes('\0')) return { fault: 'is no text' }
      return text === '' ? { fault: 'is empty' } : { text }
    } catch (error) {
      const { code = 'ERR' } = error as NodeJS.ErrnoException
      if (code === 'ENOENT' || code === 'ENOTDIR') return null
      return { fault: code === 'ERR_ENCODING_INVALID_ENCODED_DATA' ? 'is no text' : `cannot be read (${code})` }
    } finally {
      await file?.close()
    }
  }

  return {
    name: 'files',
    async read (names, { earlier }) {
      const texts: Record<string, string> = {}
      const faults: string[] = []
      for (const name of names) {
        const variable = `${name}_FILE`
        const path = names.includes(variable) ? undefined : earlier(variable)
        if (path !== undefined && earlier(name) !== undefined) {
          faults.push(`${name} and ${variable} are both set: set one`)
          continue
        }
        const paths = path !== undefined ? [path] : folder === false ? [] : [...new Set([name, name.toLowerCase()])].map(file => join(folder, file))
        const found = (await Promise.all(paths.map(async one => ({ path: one, read: await textOf(one) })))).filter(({ read }) => read !== null)
        // What is named may be the secret itself, put where its path belongs.
        if (path !== undefined && found.length === 0) faults.push(`${variable}: the file that it names is missing`)
        // On some file systems the two names are one file.
        if (new Set(found.map(({ read }) => JSON.stringify(read))).size > 1) faults.push(`${name}: ${found.map(one => one.path).join(' and ')} are both there: leave one`)
        for (const { path: one, read } of found) {
          if ('fault' in read!) faults.push(`${path === undefined ? `${name}: ${one}` : `${variable}: the file that it names`} ${read.fault}`)
          else texts[name] = read!.text
        }
      }
      return { texts, faults }
    },
  }
}
