import type { Attack } from '../lab/attack.js'

export default {
  title: 'Ask a version that was forgotten',
  risk: 'API9',
  cwe: 1059,
  concern: 'versions',
  story: 'Everybody uses the second version of the list of users. The first one asked nobody who they are, and is still there.',
  defence: 'A version says when it ends; from then on it answers that it is gone, and runs nothing.',
  refusal: { status: 410, code: 'FST_BASTION_VERSIONS_GONE' },
  async run ({ step, person, signIn }) {
    const anna = await person()
    const mona = await signIn('mona')
    step('Mona asks the first version')
    const decisive = await mona.ask('GET', '/api/v1/users')
    const found = Array.isArray(decisive.body) ? decisive.body.find(({ username }) => username === anna.username) : undefined
    return { succeeded: found?.email !== undefined, decisive, evidence: found === undefined ? 'It is gone' : `Anna's address: ${found.email}` }
  },
} satisfies Attack
