import type { Attack } from '../lab/attack.js'

const GUESSES = 20
const ALLOWED = 5

export default {
  title: 'Guess faster than failures are counted',
  risk: 'API2',
  cwe: 362,
  concern: 'sign-in',
  story: 'Five failures lock a name. Mallory sends twenty guesses in the same moment, before the first failure is written down.',
  defence: 'An attempt is counted before the password is looked at, and taken back where it was right.',
  refusal: { status: 429, code: 'FST_BASTION_SIGN_IN_LOCKED' },
  async run ({ step, ask, person }) {
    const { username } = await person()
    step('Twenty guesses at once')
    const passwords = Array.from({ length: GUESSES }, (_none, i) => `Riverbed-in-20${10 + i}-7`)
    const answers = await Promise.all(passwords.map(password => ask('POST', '/session/login', { json: { username, password }, machine: 1 })))
    const judged = answers.filter(({ status }) => status === 401)
    const succeeded = judged.length > ALLOWED
    const decisive = answers.find(({ status }) => status === 429) ?? answers[0]!
    return { succeeded, decisive, evidence: `She knows of ${judged.length} of ${GUESSES} passwords whether they are right` }
  },
} satisfies Attack
