import type { Attack } from '../lab/attack.js'

/** Fewer than lock. */
const TRIES = 4

export default {
  title: 'Find passwords in a stolen backup',
  risk: 'API2',
  cwe: 256,
  concern: 'passwords',
  story: 'A backup of data and logs was left where Mallory found it. She looks what stands beside an address, and signs in with it.',
  defence: 'Passwords are kept as argon2id hashes with a pepper that is not in the database.',
  refusal: { status: 401, code: 'FST_BASTION_SIGN_IN_REFUSED' },
  async run ({ step, ask, person, stolen }) {
    const { username } = await person()
    step('Mallory looks beside the address')
    const rows = (await stolen(new RegExp(`${username}@people\\.example(.{0,200})`, 's'))).map(([, row = '']) => row)
    // The first byte of a text in PostgreSQL is its length.
    const texts = rows.flatMap(row => (row.match(/[\x20-\x7e]{8,}/g) ?? []).flatMap(text => [text.slice(1), text]))
    step('And signs in with what stands there')
    let decisive = await ask('POST', '/auth/login', { json: { username, password: `${username}@people.example` }, machine: 1 })
    for (const password of [...new Set(texts)].slice(0, TRIES - 1)) {
      if (decisive.status !== 200) decisive = await ask('POST', '/auth/login', { json: { username, password }, machine: 1 })
    }
    const succeeded = decisive.status === 200
    return { succeeded, decisive, evidence: succeeded ? `The password of ${username} stands beside the address` : 'What stands there is no password' }
  },
} satisfies Attack
