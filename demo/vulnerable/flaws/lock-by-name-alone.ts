/** Failures lock a name, and whoever tries one password on all names is never locked (CWE-307; API2). `sign-in` counts by address as well. */
export function countedBy (username: string): string {
  return username
}
