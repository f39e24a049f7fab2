import type { Attack } from '../lab/attack.js'
import { PNG } from '../lab/images.js'

export default {
  title: 'Download the file of another by its name',
  risk: 'API1',
  cwe: 639,
  concern: 'access',
  story: 'Mallory knows how a file of Anna is called, and downloads it.',
  defence: 'Who has which file is on record, and is asked before the file is opened.',
  refusal: { status: 404, code: 'FST_BASTION_ERRORS_NOT_FOUND' },
  async run ({ step, must, person }) {
    const [anna, mallory] = [await person(), await person()]
    step('Anna uploads an image')
    const { body: { name } } = await must(anna.ask('POST', '/upload/image', { file: { name: `${anna.username}.png`, type: 'image/png', content: PNG } }), 201)
    await must(anna.ask('GET', `/files/${name}`), 200)
    step('Mallory downloads it')
    const decisive = await mallory.ask('GET', `/files/${name}`)
    const succeeded = decisive.status === 200 && decisive.text.includes('PNG')
    return { succeeded, decisive, evidence: succeeded ? `Mallory has ${name}, ${decisive.headers['content-type']}` : 'Mallory is told that there is no such file' }
  },
} satisfies Attack
