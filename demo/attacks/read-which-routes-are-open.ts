import type { Attack } from '../lab/attack.js'

export default {
  title: 'Ask the service where it is open',
  risk: 'API5',
  cwe: 497,
  concern: 'posture',
  story: 'The service can tell what protects each of its routes. Mallory asks, and looks for what nobody guards.',
  defence: 'The report is a route like any other, and for who may read it.',
  refusal: { status: 403, code: 'FST_BASTION_ACCESS_FORBIDDEN' },
  async run ({ step, person }) {
    const mallory = await person()
    step('Mallory asks for the report')
    const decisive = await mallory.ask('GET', '/posture')
    const { routes = [] } = decisive.body as { routes?: string[] }
    return { succeeded: decisive.status === 200 && routes.length > 0, decisive, evidence: `She reads of ${routes.length} routes` }
  },
} satisfies Attack
