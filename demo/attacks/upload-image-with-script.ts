import type { Attack } from '../lab/attack.js'

const SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><script>alert(document.domain)</script><rect width="9" height="9"/></svg>'

export default {
  title: 'Upload a drawing with a script in it',
  risk: 'API8',
  cwe: 79,
  concern: 'uploads',
  story: 'SVG is an image, and a document with scripts: Mallory uploads one, and who opens it runs hers.',
  defence: 'The route takes four kinds of images, none of which can hold a script.',
  refusal: { status: 415, code: 'FST_BASTION_UPLOADS_TYPE' },
  async run ({ step, person }) {
    const mallory = await person()
    step('Mallory uploads it')
    const decisive = await mallory.ask('POST', '/upload/image', { file: { name: `${mallory.username}.svg`, type: 'image/svg+xml', content: Buffer.from(SVG) } })
    if (decisive.status !== 201) return { succeeded: false, decisive, evidence: 'It is not taken' }
    step('She looks at how it is served')
    const { headers, text } = await mallory.ask('GET', `/files/${decisive.body.name}`)
    const succeeded = headers['content-type'] === 'image/svg+xml' && headers['content-disposition'] === undefined && text.includes('<script>')
    return { succeeded, decisive, evidence: `It is served as ${headers['content-type']}, with its script` }
  },
} satisfies Attack
