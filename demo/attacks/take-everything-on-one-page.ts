import type { Attack } from '../lab/attack.js'

const COMMENTS = 105
const AT_ONCE = 35

export default {
  title: 'Ask for a page of a hundred thousand',
  risk: 'API4',
  cwe: 770,
  concern: 'validation',
  story: 'A page has twenty comments, or as many as one asks for. Whoever asks for all of them, again and again, needs few requests to keep a server busy.',
  defence: 'The schema bounds the number: more than a hundred are refused, not cut.',
  refusal: { status: 400, code: 'FST_BASTION_VALIDATION_REFUSED' },
  async run ({ step, must, ask, person }) {
    const mallory = await person()
    const { body: { id } } = await must(mallory.ask('POST', '/posts', { json: { title: 'A lively talk', content: '<p>What do you say?</p>' } }), 201)
    step(`There are ${COMMENTS} comments`)
    const comment = (n: number) => must(mallory.ask('POST', `/posts/${id}/comments`, { json: { content: `Comment ${n}` } }), 201)
    for (let i = 0; i < COMMENTS; i += AT_ONCE) await Promise.all(Array.from({ length: AT_ONCE }, (_none, n) => comment(i + n)))
    step('Somebody asks for a hundred thousand')
    const decisive = await ask('GET', `/posts/${id}/comments?limit=100000`)
    const length = decisive.body.items?.length ?? 0
    return { succeeded: length > 100, decisive, evidence: `The page has ${length} comments` }
  },
} satisfies Attack
