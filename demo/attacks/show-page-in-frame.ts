import type { Attack } from '../lab/attack.js'

export default {
  title: 'Have people click what they do not see (clickjacking)',
  risk: 'API8',
  cwe: 1021,
  concern: 'headers',
  story: "Mallory's page shows the portal in a frame that cannot be seen, right where its own button is.",
  defence: 'Each page says that no other may show it, and has a policy by which no script runs that is not its own.',
  refusal: { status: 200 },
  async run ({ step, ask }) {
    step('A browser asks for the page, to show it in a frame')
    const decisive = await ask('GET', '/', { headers: { 'sec-fetch-dest': 'iframe', 'sec-fetch-site': 'cross-site' } })
    const { 'content-security-policy': policy = '', 'x-frame-options': frames } = decisive.headers
    const isForbidden = frames !== undefined || /frame-ancestors '(none|self)'/.test(String(policy))
    return { succeeded: decisive.status === 200 && !isForbidden, decisive, evidence: isForbidden ? 'The browser shows nothing: frame-ancestors forbids it' : 'The browser shows it: nothing forbids it' }
  },
} satisfies Attack
