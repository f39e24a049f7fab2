/** Passwords are kept as they were typed (CWE-256; API2). `passwords` keeps argon2id hashes with a pepper. */
import type { User } from '../data.js'

export function isPassword (user: User, password: string): boolean {
  return user.password === password
}
