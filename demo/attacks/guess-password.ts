import type { Attack } from '../lab/attack.js'

const GUESSES = 8

export default {
  title: "Guess somebody's password",
  risk: 'API2',
  cwe: 307,
  concern: 'sign-in',
  story: 'Mallory knows a name, and tries what people of that kind choose until one fits.',
  defence: 'Five failures lock a name for an address, twenty lock it for all; the right password is refused then as well, so that nothing is learnt.',
  refusal: { status: 429, code: 'FST_BASTION_SIGN_IN_LOCKED' },
  async run ({ step, ask, person }) {
    const { username, password } = await person()
    step('Mallory tries one password after the other')
    for (let i = 1; i < GUESSES; i++) await ask('POST', '/auth/login', { json: { username, password: `Riverbed-in-20${10 + i}-7` }, machine: 1 })
    step('The next one is right')
    const decisive = await ask('POST', '/auth/login', { json: { username, password }, machine: 1 })
    const succeeded = typeof decisive.body?.access_token === 'string'
    return { succeeded, decisive, evidence: succeeded ? `The ${GUESSES}th guess lets her in` : 'Even the right one is refused by now' }
  },
} satisfies Attack
