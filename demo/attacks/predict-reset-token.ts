import { createHash } from 'node:crypto'
import type { Attack } from '../lab/attack.js'

export default {
  title: 'Work out the token of a password reset',
  risk: 'API2',
  cwe: 640,
  concern: 'tokens',
  story: 'Mallory asks for a new password for the victim. She cannot read the mail, and tries what hurried teams make such tokens of.',
  defence: 'Links are signed, timed, bound to the password that they replace, and good once.',
  refusal: { status: 400, code: 'FST_BASTION_TOKENS_LINK_INVALID' },
  async run ({ step, must, ask, person }) {
    const { id, username } = await person()
    const email = `${username}@people.example`
    const newPassword = 'Mallory-was-here-1'
    step('A new password is asked for')
    await must(ask('POST', '/auth/forgot', { json: { email }, machine: 1 }), 202)
    step('Hashes of what is known of the victim')
    const hash = (algorithm: string, text: string) => createHash(algorithm).update(text).digest('hex')
    const guesses = [hash('md5', username), hash('md5', id), hash('md5', email), hash('sha1', email), hash('sha256', email)]
    let decisive = await ask('POST', '/auth/reset', { json: { token: guesses[0], newPassword }, machine: 1 })
    for (const token of guesses.slice(1)) {
      if (decisive.status !== 204) decisive = await ask('POST', '/auth/reset', { json: { token, newPassword }, machine: 1 })
    }
    step('Mallory signs in with the new password')
    const { status } = await ask('POST', '/auth/login', { json: { username, password: newPassword }, machine: 1 })
    const succeeded = status === 200
    return { succeeded, decisive, evidence: succeeded ? 'The token was a hash of the address: the account is hers' : `None of ${guesses.length} hashes is a token` }
  },
} satisfies Attack
