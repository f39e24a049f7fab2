import type { Attack } from '../lab/attack.js'

const SEARCHES = 14

export default {
  title: 'Evade a limit by naming another address each time',
  risk: 'API4',
  cwe: 348,
  concern: 'limits',
  story: 'Ten searches a minute are for each address. Mallory sends a header in which there is another one each time.',
  defence: 'An address is that of the connection. The header counts only where it comes from a proxy that the settings name.',
  refusal: { status: 429, code: 'FST_BASTION_LIMITS_EXCEEDED' },
  async run ({ step, ask }) {
    step(`Somebody searches ${SEARCHES} times in a row`)
    let answered = 0
    let decisive
    for (let i = 1; i <= SEARCHES; i++) {
      decisive = await ask('GET', '/search?q=steps', { headers: { 'x-forwarded-for': `203.0.113.${i}`, 'x-real-ip': `203.0.113.${i}`, forwarded: `for=203.0.113.${i}` } })
      if (decisive.status === 200) answered++
    }
    return { succeeded: answered === SEARCHES, decisive: decisive!, evidence: `${answered} of ${SEARCHES} were answered` }
  },
} satisfies Attack
