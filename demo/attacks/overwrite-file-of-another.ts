import { createHash } from 'node:crypto'
import type { Attack } from '../lab/attack.js'
import { OTHER_PNG, PNG } from '../lab/images.js'

const digest = (text: string) => createHash('sha256').update(text).digest('hex').slice(0, 12)

export default {
  title: 'Overwrite the file of another by uploading its name',
  risk: 'API1',
  cwe: 73,
  concern: 'uploads',
  story: 'Files are kept under the name that they come with. Mallory uploads one by the name of a file of Anna.',
  defence: 'The service names each file itself; the name that it came with is kept beside it.',
  refusal: { status: 200 },
  async run ({ step, must, person }) {
    const [anna, mallory] = [await person(), await person()]
    step('Anna uploads an image, and looks at it')
    const { body: { name } } = await must(anna.ask('POST', '/upload/image', { file: { name: `${anna.username}.png`, type: 'image/png', content: PNG } }), 201)
    const before = digest((await must(anna.ask('GET', `/files/${name}`), 200)).text)
    step('Mallory uploads another by its name')
    await must(mallory.ask('POST', '/upload/image', { file: { name, type: 'image/png', content: OTHER_PNG } }), 201)
    step('Anna looks at hers again')
    const decisive = await must(anna.ask('GET', `/files/${name}`), 200)
    const after = digest(decisive.text)
    return { succeeded: after !== before, decisive, evidence: `Anna's image was ${before} and is ${after}` }
  },
} satisfies Attack
