import { PNG } from '../lab/images.js'
import type { Attack, Exchange } from '../lab/attack.js'
import type { Call } from '../lab/target.js'

const JSON_TYPE = { 'content-type': 'application/json' }
const post = (raw: string | Buffer, headers: Record<string, string> = JSON_TYPE): Call => ({ raw, headers })
const image = (content: Buffer): Call => ({ file: { name: 'image.png', type: 'image/png', content } })

/** What something inside may not be made for: ids, encodings, types, lengths, files. */
const ODD: [method: string, path: string, call?: Call][] = [
  ['GET', '/orders/%00'], ['GET', '/orders/%ff'], ['GET', `/orders/${'9'.repeat(90)}`], ['GET', '/files/%00.png'], ['GET', `/download/${'x/'.repeat(60)}`],
  ['GET', '/posts?limit=1e999'], ['GET', "/posts?cursor='"], ['GET', '/search?q=%00'], ['GET', '/search?q=a&q=b'], ['GET', '/search?q=%ed%a0%80'],
  ['GET', '/users/me', { headers: { authorization: 'Bearer a.b.c' } }], ['GET', '/session/me', { token: undefined, headers: { cookie: '__Host-session=%; session=%' } }],
  ['POST', '/posts', post('{"title":{},"content":[1]}')], ['POST', '/posts', post('{"title":"\\u0000","content":"\\u0000 and ten more"}')],
  ['POST', '/posts', post('{"title":"\\ud800","content":"<p>half of a letter</p>"}')], ['POST', '/posts', post('<a/>', { 'content-type': 'text/xml' })],
  ['POST', '/posts', post(Buffer.from([0x22, 0xff, 0xfe, 0x22]))], ['POST', '/posts', post('null')], ['POST', '/documents', post('{"title":"x","content":"\\u0000"}')],
  ['POST', '/payments', post('{"orderId":"x","paymentToken":"tok_visa","amount":1e308,"currency":"EUR"}')], ['POST', '/auth/refresh', post('{"refresh_token":"\\u0000"}')],
  ['POST', '/auth/login', post('{"username":"\\u0000","password":"\\ud800"}')], ['POST', '/upload/image', post('--', { 'content-type': 'multipart/form-data' })],
  ['POST', '/upload/image', image(PNG.subarray(0, PNG.length >> 1))], ['POST', '/upload/image', image(Buffer.from('no image'))],
  ['GET', '/orders/x'], ['POST', '/posts', post('{"title":')],
]
const INNARDS = /\b(?:select|insert into|update|delete from) [\w"*, ]+|\/[\w/.-]+\.[cm]?[jt]s\b|node:internal|node_modules|\bat (?:async )?[\w.<>]+ \(|invalid (?:input syntax|byte sequence)|relation "|"stack"|vips|json at position|end of json/i

export default {
  title: 'Learn statements and paths from an error',
  risk: 'API8',
  cwe: 209,
  concern: 'errors',
  story: 'Mallory sends what nobody thought of: halves of letters, bodies that break off, numbers without end, ids that are none. She reads what the errors tell.',
  defence: 'An error says what the client can mend; what else is known of it stands in the log.',
  refusal: { status: 400 },
  async run ({ step, person }) {
    const mallory = await person()
    step(`Mallory asks for ${ODD.length} things that are none`)
    let decisive!: Exchange
    for (const [method, path, call] of ODD) {
      decisive = await mallory.ask(method, path, call)
      const [found] = INNARDS.exec(decisive.text) ?? []
      if (found !== undefined) return { succeeded: true, decisive, evidence: `${method} ${path.slice(0, 20)} tells her: ${found}` }
      // Where the server fails, it had not looked; what it told of it this time is not the point.
      if (decisive.status >= 500) break
    }
    return { succeeded: false, decisive, evidence: decisive.status >= 500 ? `${decisive.path} fails` : `Of ${ODD.length} errors none tells of the inside. The last: ${decisive.body.detail}` }
  },
} satisfies Attack
