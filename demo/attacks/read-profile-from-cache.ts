import type { Attack } from '../lab/attack.js'

export default {
  title: 'Read what a proxy has kept of others',
  risk: 'API8',
  cwe: 525,
  concern: 'headers',
  story: 'Anna looks at her profile in an office. The proxy there keeps what does not forbid it, and gives it to whoever asks next.',
  defence: 'What was authenticated says that nothing may keep it.',
  refusal: { status: 200 },
  async run ({ step, must, person }) {
    const anna = await person()
    step('Anna looks at her profile, and the proxy at its headers')
    const decisive = await must(anna.ask('GET', '/users/me'), 200)
    const kept = String(decisive.headers['cache-control'] ?? 'nothing')
    // What says nothing of it may be kept as well.
    return { succeeded: !/\bno-store\b/.test(kept), decisive, evidence: `Cache-Control: ${kept}` }
  },
} satisfies Attack
