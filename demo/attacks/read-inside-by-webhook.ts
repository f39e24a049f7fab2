import type { Attack } from '../lab/attack.js'

export default {
  title: 'Read an inner service by the URL of a webhook (SSRF)',
  risk: 'API7',
  cwe: 918,
  concern: 'outbound',
  story: "The service posts to a URL of the user's. Mallory gives that of something inside, and writes its address so that a look at the text does not tell.",
  defence: 'A name is resolved, and every address that it has looked at, whatever its spelling; the connection goes to that address and no other.',
  refusal: { status: 400, code: 'FST_BASTION_OUTBOUND_REFUSED' },
  async run ({ step, person, lair }) {
    const inside = await lair((_request, response) => { response.end('the keys of the house') })
    const { port } = new URL(inside.url)
    const mallory = await person()
    step('Mallory sets URLs that lead inside, by every spelling she knows')
    let decisive
    for (const url of [`http://127.0.0.1:${port}/`, `http://2130706433:${port}/`, `http://0x7f.1:${port}/`, `http://[::ffff:127.0.0.1]:${port}/`, 'https://localhost/', 'https://127.0.0.1/']) {
      decisive = await mallory.ask('PUT', '/users/me/webhook', { json: { url } })
      if (decisive.status === 200) break
    }
    step('She has it tried')
    const { body } = await mallory.ask('POST', '/users/me/webhook/test')
    const succeeded = inside.hits.length > 0 && String(body.answer).includes('the keys of the house')
    return { succeeded, decisive: decisive!, evidence: succeeded ? `The inner service answers: ${body.answer}` : `The inner service was asked ${inside.hits.length} times` }
  },
} satisfies Attack
