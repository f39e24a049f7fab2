import type { Attack } from '../lab/attack.js'

export default {
  title: 'Read what a proxy has kept of others',
  risk: 'API8',
  cwe: 525,
  concern: 'headers',
  story: 'Anna looks at her profile in an office. The proxy there keeps what says that everybody may have it, and gives it to who asks next.',
  defence: 'What was authenticated says that nothing may keep it.',
  refusal: { status: 200 },
  async run ({ step, person }) {
    const anna = await person()
    step('Anna looks at her profile, and the proxy at its headers')
    const decisive = await anna.ask('GET', '/users/me')
    const kept = String(decisive.headers['cache-control'])
    return { succeeded: /public|max-age=[1-9]/.test(kept) && !/no-store|private/.test(kept), decisive, evidence: `Cache-Control: ${kept}` }
  },
} satisfies Attack
