import type { Attack, Exchange } from '../lab/attack.js'

/** Spellings of an address: what is refused of them may be how they are written, their scheme or their port. */
const DISGUISES = ['2130706433', '0x7f.1', '[::ffff:127.0.0.1]', '127.1']
/** Nothing stands against these but where they lead. */
const INSIDE = ['https://127.0.0.1/', 'https://localhost/', 'https://169.254.169.254/latest/meta-data/', 'https://10.0.0.1/']
const REFUSED = 'FST_BASTION_OUTBOUND_REFUSED'

export default {
  title: 'Read an inner service by the URL of a webhook (SSRF)',
  risk: 'API7',
  cwe: 918,
  concern: 'outbound',
  story: "The service posts to a URL of the user's. Mallory gives that of something inside, and writes its address so that a look at the text does not tell.",
  defence: 'A name is resolved, and every address that it has looked at, whatever its spelling; the connection goes to that address and no other.',
  refusal: { status: 400, code: REFUSED },
  async run ({ step, person, lair }) {
    const inside = await lair((_request, response) => { response.end('the keys of the house') })
    const { port } = new URL(inside.url)
    const mallory = await person()
    step('Mallory sets URLs that lead inside, by every spelling she knows')
    let decisive!: Exchange
    for (const url of [`http://127.0.0.1:${port}/`, ...DISGUISES.map(host => `http://${host}:${port}/`), ...INSIDE]) {
      decisive = await mallory.ask('PUT', '/users/me/webhook', { json: { url } })
      if (decisive.status !== 400 || (INSIDE.includes(url) && decisive.body.code !== REFUSED)) break
    }
    step('She has it tried')
    const { body } = await mallory.ask('POST', '/users/me/webhook/test')
    const succeeded = inside.hits.length > 0 && String(body.answer).includes('the keys of the house')
    return { succeeded, decisive, evidence: succeeded ? `The inner service answers: ${body.answer}` : `None of ${1 + DISGUISES.length + INSIDE.length} URLs is taken` }
  },
} satisfies Attack
