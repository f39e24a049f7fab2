import type { Attack } from '../lab/attack.js'
import { hugeImage } from '../lab/images.js'

const SIDE = 12_000

export default {
  title: 'Send an image of a few kilobytes and 144 million pixels',
  risk: 'API4',
  cwe: 409,
  concern: 'uploads',
  story: 'Nothing packs as well as an image of one colour. To make it smaller, the server unpacks all of it.',
  defence: 'The dimensions are read first: an image that is too large is never decoded.',
  refusal: { status: 400, code: 'FST_BASTION_UPLOADS_CONTENT' },
  async run ({ step, person }) {
    const mallory = await person()
    step('Mallory uploads it')
    const content = hugeImage(SIDE)
    const decisive = await mallory.ask('POST', '/upload/image', { file: { name: `${mallory.username}.png`, type: 'image/png', content } })
    const succeeded = decisive.status === 201 && decisive.body.width === SIDE && decisive.body.preview !== undefined
    return { succeeded, decisive, evidence: succeeded ? `${content.length} bytes kept the server busy for ${Math.round(decisive.ms)} ms` : 'It is not decoded' }
  },
} satisfies Attack
