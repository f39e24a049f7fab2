/** The cookie of the session can be read by every script of a page (CWE-1004, CWE-1275; API8). `sessions` sets it `__Host-`, HttpOnly, Secure and SameSite. */
export function cookieOf (id: string): string {
  return `session=${id}; Path=/; Max-Age=31536000`
}
