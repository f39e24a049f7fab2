import type { Attack } from '../lab/attack.js'

export default {
  title: "Lead people elsewhere by the service's own name",
  risk: 'API8',
  cwe: 601,
  concern: 'transport',
  story: 'A link begins with the name of the service, and leads to another site: the service takes off a slash, and what is left names a host.',
  defence: 'A target that could be read as a host is refused; nothing is redirected to what was sent.',
  refusal: { status: 404 },
  async run ({ step, ask }) {
    step('Somebody follows the link')
    const decisive = await ask('GET', '//evil.example/')
    const { location } = decisive.headers
    const to = location === undefined ? undefined : new URL(String(location), 'http://localhost').hostname
    return { succeeded: to === 'evil.example', decisive, evidence: to === undefined ? 'They stay where they are' : `They are at ${to} now` }
  },
} satisfies Attack
