import type { Attack } from '../lab/attack.js'

export default {
  title: 'Find a route for debugging in the documentation',
  risk: 'API9',
  cwe: 489,
  concern: 'openapi',
  story: 'The documentation lists all that there is, also what was made to look for a fault, which shows the settings, which hold a password.',
  defence: 'Documentation is for development, and what it lists is what the routes themselves say. In production there is none.',
  refusal: { status: 404, code: 'FST_BASTION_ERRORS_NOT_FOUND' },
  async run ({ step, ask }) {
    step('Somebody reads the documentation')
    const decisive = await ask('GET', '/docs/json')
    const paths = Object.keys(decisive.body.paths ?? {})
    const debug = paths.find(path => path.includes('debug'))
    if (debug === undefined) return { succeeded: false, decisive, evidence: `It lists ${paths.length} routes` }
    step('And asks for what looks odd in it')
    const { body: { env } } = await ask('GET', debug)
    const { status } = await ask('POST', '/auth/login', { json: { username: 'admin', password: env.DEMO_PASSWORD } })
    return { succeeded: status === 200, decisive, evidence: `${debug} shows a password, and the admin signs in with it` }
  },
} satisfies Attack
