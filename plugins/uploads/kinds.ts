/** The kinds of files that can be taken: what their names, their declared types and their first bytes say. */
import { fileTypeFromBuffer } from 'file-type'

export interface Kind {
  /** Extensions that say it, the one that is given first. */
  extensions: readonly string[]
  /** The media type that must be declared, and is stored. */
  type: string
  /** What the first bytes may look like. */
  detected: readonly string[]
  content: 'image' | 'pdf' | 'docx'
}

const DOCX = 'application/vnd.openxmlformats-officedocument.wordprocessingml.document'

export const KINDS = {
  jpeg: { extensions: ['jpg', 'jpeg'], type: 'image/jpeg', detected: ['image/jpeg'], content: 'image' },
  png: { extensions: ['png'], type: 'image/png', detected: ['image/png'], content: 'image' },
  gif: { extensions: ['gif'], type: 'image/gif', detected: ['image/gif'], content: 'image' },
  webp: { extensions: ['webp'], type: 'image/webp', detected: ['image/webp'], content: 'image' },
  pdf: { extensions: ['pdf'], type: 'application/pdf', detected: ['application/pdf'], content: 'pdf' },
  // Which of its entries come first is for whoever writes the archive: the rest of it tells what it is.
  docx: { extensions: ['docx'], type: DOCX, detected: [DOCX, 'application/zip'], content: 'docx' },
} as const satisfies Record<string, Kind>

export type KindName = keyof typeof KINDS

/** Bytes of a file that tell its type. */
export const HEAD_BYTES = 16_384

/** The kind that both the extension and the declared type say; null where none of `accepted` is. */
export function kindOf (extension: string, declared: string, accepted: readonly KindName[]): KindName | null {
  return accepted.find(name => (KINDS[name].extensions as readonly string[]).includes(extension) && KINDS[name].type === declared) ?? null
}

/** Whether a file that begins like this is of that kind. Of the head alone, so that it costs the same for every file. */
export async function beginsLike (head: Uint8Array, kind: KindName): Promise<boolean> {
  const detected = await fileTypeFromBuffer(head).catch(() => undefined)
  return detected !== undefined && (KINDS[kind].detected as readonly string[]).includes(detected.mime)
}
