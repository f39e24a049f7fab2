import type { Attack } from '../lab/attack.js'

const GUESSES = 8

export default {
  title: 'Guess at the entrance for programs instead',
  risk: 'API2',
  cwe: 307,
  concern: 'oauth2',
  story: 'The form for people counts failures. Mallory goes on at the token endpoint of OAuth 2, where programs sign in with a password.',
  defence: 'The password grant is sign-in itself, with the same locks for the same names; and it is off unless it is switched on.',
  refusal: { status: 429 },
  async run ({ step, ask, person }) {
    const { username, password } = await person()
    const grant = (guess: string) => ask('POST', '/token', { form: { grant_type: 'password', username, password: guess }, machine: 1 })
    step('Mallory tries one password after the other')
    for (let i = 1; i < GUESSES; i++) await grant(`Riverbed-in-20${10 + i}-7`)
    step('The next one is right')
    const decisive = await grant(password)
    const succeeded = typeof decisive.body?.access_token === 'string'
    return { succeeded, decisive, evidence: succeeded ? `The ${GUESSES}th guess is a token` : 'Even the right one is refused by now' }
  },
} satisfies Attack
