import type { Attack } from '../lab/attack.js'

/** A file of the database, which lies beside the uploads on both sides. It holds a number alone. */
const CANARY = 'database/PG_VERSION'
const NAMES = [`../${CANARY}`, `..%2f${CANARY}`, `%2e%2e%2f${CANARY}`, `..%252f${CANARY}`, `....//${CANARY}`, `..%5c${CANARY}`, `%2e%2e/${CANARY}`, `x/..%2f..%2f${CANARY}`]

export default {
  title: 'Download a file of the database by dots and slashes',
  risk: 'API8',
  cwe: 22,
  concern: 'files',
  story: 'Downloads are asked for by a path. Mallory asks for one that leads out of the folder of uploads.',
  defence: 'Whoever asks must have a file by this name on record; names have one spelling, and nothing outside of the folder is opened.',
  refusal: { status: 404 },
  async run ({ step, person }) {
    const mallory = await person()
    step('Mallory asks for a file of the database by every spelling she knows')
    let decisive
    for (const name of NAMES) {
      decisive = await mallory.ask('GET', `/download/${name}`)
      if (decisive.status === 200) break
    }
    const succeeded = decisive!.status === 200 && /^\d+\s*$/.test(decisive!.text)
    return { succeeded, decisive: decisive!, evidence: succeeded ? `The database is of version ${decisive!.text.trim()}` : `None of ${NAMES.length} names leads out` }
  },
} satisfies Attack
