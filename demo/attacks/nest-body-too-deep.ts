import type { Attack } from '../lab/attack.js'

const DEPTH = 60_000

export default {
  title: 'Break the server by a body of brackets in brackets',
  risk: 'API4',
  cwe: 674,
  concern: 'validation',
  story: 'Whatever goes through an object calls itself for each level of it. A body of sixty thousand levels is small, and no stack is high enough for it.',
  defence: 'The depth of a body is counted before anything is made of it.',
  refusal: { status: 400, code: 'FST_BASTION_VALIDATION_TOO_DEEP' },
  async run ({ step, person }) {
    const mallory = await person()
    step('Mallory sends it')
    const raw = `{"version":"1","given":true,"more":${'['.repeat(DEPTH)}${']'.repeat(DEPTH)}}`
    const decisive = await mallory.ask('PUT', '/users/me/consents/newsletter', { raw, headers: { 'content-type': 'application/json' } })
    const succeeded = decisive.status >= 500
    return { succeeded, decisive, evidence: succeeded ? `The server fails: ${decisive.body.error ?? decisive.status}` : 'It is refused before anything goes through it' }
  },
} satisfies Attack
