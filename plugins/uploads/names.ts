/** Names that clients give to their files: text for people, and an extension. Nothing is ever opened by them. */

/** Characters that are kept of a name. */
const MAX_LENGTH = 200

/** The extension in lower case, without the dot; empty where there is none. */
export function extensionOf (name: string): string {
  return /[^.]\.([A-Za-z0-9]{1,10})$/.exec(name)?.[1]?.toLowerCase() ?? ''
}

/** Control characters, U+0000 among them, are in no name that a person gave (CWE-158). */
export function isNameOfFile (name: string): boolean {
  return name !== '' && !/[\p{Cc}\p{Cs}]/u.test(name)
}

/** What is kept of a name: its last segment, without characters that nobody sees or that turn the direction of what follows (CWE-451). */
export function cleanName (name: string): string {
  const last = name.normalize('NFC').split(/[/\\]/).at(-1)!
  const visible = last.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Co}]/gu, '').replace(/\p{Zs}+/gu, ' ').replace(/^[. ]+|[. ]+$/g, '')
  const characters = [...visible]
  const extension = extensionOf(visible)
  if (characters.length > MAX_LENGTH) return `${characters.slice(0, MAX_LENGTH - extension.length - 1).join('')}.${extension}`
  return visible === '' ? 'file' : visible
}
