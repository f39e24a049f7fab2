import type { Attack } from '../lab/attack.js'

export default {
  title: 'Harvest the e-mail addresses of all users',
  risk: 'API3',
  cwe: 359,
  concern: 'exposure',
  story: 'A moderator may look people up by name. The answer holds their addresses too.',
  defence: 'The address says who may see it: its owner, and who has a permission for it.',
  refusal: { status: 200 },
  async run ({ step, must, person, signIn }) {
    const anna = await person()
    const mona = await signIn('mona')
    step('Mona looks Anna up')
    const decisive = await must(mona.ask('GET', `/users?username=${anna.username}`), 200)
    const { items: [found] } = decisive.body
    return { succeeded: found.email !== undefined, decisive, evidence: found.email === undefined ? `Of Anna she reads: ${Object.keys(found).join(', ')}` : `Anna's address: ${found.email}` }
  },
} satisfies Attack
