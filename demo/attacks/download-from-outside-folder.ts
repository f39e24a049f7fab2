import { PNG } from '../lab/images.js'
import type { Attack } from '../lab/attack.js'

/** A file of the database, which lies beside the uploads on both sides. It holds a number alone. */
const CANARY = 'database/PG_VERSION'
const waysTo = (path: string) => [
  `../${path}`, `..%2f${path}`, `%2e%2e%2f${path}`, `..%252f${path}`, `....//${path}`, `..%5c${path}`, `%2e%2e/${path}`, `x/..%2f..%2f${path}`,
]

export default {
  title: 'Download a file of the database by dots and slashes',
  risk: 'API8',
  cwe: 22,
  concern: 'access',
  story: 'Downloads are asked for by a path. Mallory asks for one that leads out of the folder of uploads, and for a file of her own by a way that leads out and back in.',
  defence: 'Whoever asks must have a file by this very name on record, and the name on record is what is opened. Behind that, the files concern takes one spelling of a name and opens nothing outside of its folder.',
  refusal: { status: 404, code: 'FST_BASTION_ERRORS_NOT_FOUND' },
  async run ({ step, must, person }) {
    const mallory = await person()
    step('Mallory uploads an image, and downloads it')
    const { body: { name } } = await must(mallory.ask('POST', '/upload/image', { file: { name: `${mallory.username}.png`, type: 'image/png', content: PNG } }), 201)
    const { text: image } = await must(mallory.ask('GET', `/download/${name}`), 200)
    step('She asks for a file of the database, and for her own, by every way out that she knows')
    let decisive
    const ways = [...waysTo(CANARY), ...waysTo(`uploads/${name}`)]
    for (const way of ways) {
      decisive = await mallory.ask('GET', `/download/${way}`)
      if (decisive.status !== 404) break
    }
    const { status, text } = decisive!
    const succeeded = status === 200 && (/^\d+\s*$/.test(text) || text === image)
    return { succeeded, decisive: decisive!, evidence: succeeded ? `${decisive!.path} leads out: ${text.slice(0, 20).trim()}` : `None of ${ways.length} ways leads out` }
  },
} satisfies Attack
