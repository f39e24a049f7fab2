import type { Attack } from '../lab/attack.js'
import { PNG } from '../lab/images.js'

const SIZE = 8 * 1024 * 1024

export default {
  title: 'Fill the disk by images without end',
  risk: 'API4',
  cwe: 770,
  concern: 'uploads',
  story: 'An image, and behind it whatever else: how large it may be was not said.',
  defence: 'Bytes are counted while they arrive: over the limit nothing more is read, and nothing is kept. Each user has a quota.',
  refusal: { status: 413, code: 'FST_BASTION_UPLOADS_TOO_LARGE' },
  async run ({ step, person }) {
    const mallory = await person()
    step('Mallory uploads a tiny image with a long tail')
    const content = Buffer.concat([PNG, Buffer.alloc(SIZE)])
    const decisive = await mallory.ask('POST', '/upload/image', { file: { name: `${mallory.username}.png`, type: 'image/png', content } })
    const succeeded = decisive.status === 201 && decisive.body.size >= SIZE
    return { succeeded, decisive, evidence: succeeded ? `${decisive.body.size} bytes are kept` : 'Nothing is kept' }
  },
} satisfies Attack
