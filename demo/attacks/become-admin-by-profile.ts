import type { Attack } from '../lab/attack.js'

export default {
  title: 'Become admin by a field of the profile',
  risk: 'API3',
  cwe: 915,
  concern: 'validation',
  story: 'Somebody new changes their profile, and sends a role beside it, as the answer showed that there is one.',
  defence: 'Bodies are closed: a field that the schema does not name is refused, not dropped.',
  refusal: { status: 400 },
  async run ({ step, must, person }) {
    const mallory = await person()
    step('Mallory changes her profile, and her role with it')
    const decisive = await mallory.ask('PATCH', '/users/me', { json: { bio: 'Hello', role: 'admin' } })
    const { body: profile } = await must(mallory.ask('GET', '/users/me'), 200)
    return { succeeded: profile.role === 'admin', decisive, evidence: `Her role is ${profile.role}` }
  },
} satisfies Attack
