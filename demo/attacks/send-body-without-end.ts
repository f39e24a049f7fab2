import type { Attack } from '../lab/attack.js'

const SIZE = 2 * 1024 * 1024

export default {
  title: 'Send a body of megabytes',
  risk: 'API4',
  cwe: 770,
  concern: 'server',
  story: 'A document is text, of which people write some pages. Mallory sends megabytes, which the server reads into memory and keeps.',
  defence: 'A body has 256 KiB at most, and is not read further than that. Routes for files count their own.',
  refusal: { status: 413 },
  async run ({ step, person }) {
    const mallory = await person()
    step('Mallory writes a document')
    const decisive = await mallory.ask('POST', '/documents', { json: { title: 'Long', content: 'x'.repeat(SIZE) } })
    const succeeded = decisive.status === 201
    return { succeeded, decisive, evidence: succeeded ? `${decisive.body.content.length} letters are kept` : 'Nothing is kept' }
  },
} satisfies Attack
