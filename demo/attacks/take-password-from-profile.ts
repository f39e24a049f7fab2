import type { Attack } from '../lab/attack.js'

/** What anybody may know of anybody. */
const PUBLIC: readonly string[] = ['id', 'username', 'createdAt']

export default {
  title: "Take a password out of somebody's profile",
  risk: 'API3',
  cwe: 200,
  concern: 'exposure',
  story: 'The page shows a name. Mallory looks at all that the answer holds, and signs in with it where it is a password.',
  defence: 'An answer holds what its schema names and its reader may see, and nothing else of the row.',
  refusal: { status: 200 },
  async run ({ step, must, ask, person }) {
    const [anna, mallory] = [await person(), await person()]
    step("Mallory looks at Anna's profile")
    const decisive = await must(mallory.ask('GET', `/users/${anna.id}`), 200)
    const { body } = decisive
    if (body.username !== anna.username) throw new Error('this is not the profile of Anna')
    const more = Object.keys(body).filter(name => !PUBLIC.includes(name))
    if (body.password !== undefined) {
      step('She signs in with what she found')
      await must(ask('POST', '/auth/login', { json: { username: anna.username, password: body.password } }), 200)
      return { succeeded: true, decisive, evidence: `Signed in as Anna with ${body.password}` }
    }
    return { succeeded: more.length > 0, decisive, evidence: more.length > 0 ? `It tells ${more.join(', ')}` : `It holds ${Object.keys(body).join(', ')}` }
  },
} satisfies Attack
