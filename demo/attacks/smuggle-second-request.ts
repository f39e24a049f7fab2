import type { Attack } from '../lab/attack.js'

export default {
  title: 'Smuggle a second request past a proxy',
  risk: 'API8',
  cwe: 444,
  concern: 'server',
  story: 'A request gives two lengths. A proxy that goes by the one sees one request; a server that goes by the other sees two, the second of which nobody has looked at.',
  defence: 'Whoever gives two lengths has made no request: it is refused, and the connection closed.',
  refusal: { status: 400 },
  async run ({ step, origin, write }) {
    const { host } = new URL(origin)
    const hidden = `GET /health HTTP/1.1\r\nHost: ${host}\r\n\r\n`
    const body = `0\r\n\r\n${hidden}`
    step('One request, by the length that a proxy goes by')
    const decisive = await write(`GET / HTTP/1.1\r\nHost: ${host}\r\nContent-Length: ${body.length}\r\nTransfer-Encoding: chunked\r\n\r\n${body}`)
    const answers = decisive.text.match(/HTTP\/1\.1 \d+/g) ?? []
    return { succeeded: answers.length > 1, decisive, evidence: `${answers.length} answers: ${answers.join(', ')}` }
  },
} satisfies Attack
