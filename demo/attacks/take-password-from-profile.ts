import type { Attack } from '../lab/attack.js'

export default {
  title: "Take a password out of somebody's profile",
  risk: 'API3',
  cwe: 200,
  concern: 'exposure',
  story: 'The page shows a name. Mallory looks at all that the answer holds, and signs in with it.',
  defence: 'An answer holds what its schema names, and nothing else of the row.',
  refusal: { status: 200 },
  async run ({ step, ask, person }) {
    const [anna, mallory] = [await person(), await person()]
    step("Mallory looks at Anna's profile")
    const decisive = await mallory.ask('GET', `/users/${anna.id}`)
    const { password } = decisive.body
    if (password === undefined) return { succeeded: false, decisive, evidence: `It holds ${Object.keys(decisive.body).join(', ')}` }
    step('She signs in with what she found')
    const { status } = await ask('POST', '/auth/login', { json: { username: anna.username, password } })
    return { succeeded: status === 200, decisive, evidence: `Signed in as Anna with ${password}` }
  },
} satisfies Attack
