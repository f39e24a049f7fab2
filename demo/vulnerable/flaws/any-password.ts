/** Eight characters are a password, the most common ones among them (CWE-521; API2). `passwords` refuses what is common, and one's own name. */
export function isGoodPassword (password: unknown): boolean {
  return typeof password === 'string' && password.length >= 8
}
