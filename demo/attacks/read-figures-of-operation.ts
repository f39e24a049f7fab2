import type { Attack } from '../lab/attack.js'

export default {
  title: 'Read the figures of operation',
  risk: 'API8',
  cwe: 497,
  concern: 'metrics',
  story: 'How many users there are, how much memory, which version of what: Mallory asks where programs ask that watch the service.',
  defence: 'The figures are a route like any other, and for who has the permission; programs that watch have a key with its scope.',
  refusal: { status: 401, code: 'FST_BASTION_ACCESS_UNAUTHENTICATED' },
  async run ({ step, ask }) {
    step('Somebody asks for the figures')
    const decisive = await ask('GET', '/metrics')
    const [figure] = /^process_resident_memory_bytes \d+/m.exec(decisive.text) ?? []
    return { succeeded: figure !== undefined, decisive, evidence: figure ?? 'They are told nothing' }
  },
} satisfies Attack
