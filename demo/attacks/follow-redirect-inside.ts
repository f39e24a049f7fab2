import type { Attack } from '../lab/attack.js'

export default {
  title: 'Send a delivery on into the inside by a redirect',
  risk: 'API10',
  cwe: 601,
  concern: 'outbound',
  story: "What Mallory's receiver answers is believed: it says that the delivery belongs elsewhere, and names a service inside.",
  defence: 'What is measured here is the first step: all of the range is on this machine, so that the receiver is inside itself, and is refused. Deliveries follow no redirect; the tests of outbound show that.',
  refusal: { status: 400, code: 'FST_BASTION_OUTBOUND_REFUSED' },
  async run ({ step, person, lair }) {
    const inside = await lair((_request, response) => { response.end('the keys of the house') })
    const receiver = await lair((_request, response) => { response.writeHead(307, { location: `${inside.url}/admin` }).end() })
    const { port } = new URL(receiver.url)
    const mallory = await person()
    step("Mallory sets her receiver's URL, and has it tried")
    let decisive
    for (const url of [`http://127.1:${port}/`, 'https://127.0.0.1/']) {
      decisive = await mallory.ask('PUT', '/users/me/webhook', { json: { url } })
      if (decisive.status !== 400) break
    }
    const { body } = await mallory.ask('POST', '/users/me/webhook/test')
    const succeeded = inside.hits.some(hit => hit.url === '/admin')
    return { succeeded, decisive: decisive!, evidence: succeeded ? `The inner service was asked, and answers: ${body.answer}` : `The inner service was asked ${inside.hits.length} times` }
  },
} satisfies Attack
