import type { Attack } from '../lab/attack.js'

const LINK = 'javascript:alert(document.cookie)'
const TYPES = ['application/json', 'application/json;charset=utf-8', 'application/json; charset=utf-8', 'Application/JSON']

export default {
  title: 'Have a body go unchecked by another spelling of its type',
  risk: 'API8',
  cwe: 436,
  concern: 'validation',
  story: 'The website of a profile is shown as a link. One that runs a script is refused, unless the type of the body is written in another way.',
  defence: 'Whatever was parsed is checked, and a type that the route does not take is not parsed.',
  refusal: { status: 400, code: 'FST_BASTION_VALIDATION_REFUSED' },
  async run ({ step, person }) {
    const mallory = await person()
    step('Mallory sends the link, by every spelling of the type that she knows')
    let decisive
    for (const type of TYPES) {
      decisive = await mallory.ask('PATCH', '/users/me', { raw: JSON.stringify({ website: LINK }), headers: { 'content-type': type } })
      if (decisive.status === 200) break
    }
    const { body: { website } } = await mallory.ask('GET', '/users/me')
    return { succeeded: website === LINK, decisive: decisive!, evidence: `Her website: ${website ?? 'none'}` }
  },
} satisfies Attack
