/** Production: where what is for development is refused. */

/** A misspelt `NODE_ENV` is production; one that is empty is none. */
export function isProduction (): boolean {
  return !['development', 'test', undefined, ''].includes(process.env.NODE_ENV)
}
