import type { Attack } from '../lab/attack.js'

export default {
  title: "Share somebody else's document with oneself",
  risk: 'API1',
  cwe: 639,
  concern: 'access',
  story: 'Mallory may not read a document of Anna. She makes herself a share of it.',
  defence: 'Sharing is an action of the document like any other: it is for its owner.',
  refusal: { status: 404, code: 'FST_BASTION_ERRORS_NOT_FOUND' },
  async run ({ step, must, person }) {
    const [anna, mallory] = [await person(), await person()]
    const { body: { id } } = await must(anna.ask('POST', '/documents', { json: { title: 'Diary', content: 'Dear diary' } }), 201)
    step("Mallory shares Anna's document with herself")
    const decisive = await mallory.ask('POST', `/documents/${id}/shares`, { json: { userId: mallory.id, actions: ['read', 'write'] } })
    step('She looks at the documents that are hers or shared with her')
    const { body: { items } } = await must(mallory.ask('GET', '/documents'), 200)
    const succeeded = items.some((document: { id: unknown }) => String(document.id) === String(id))
    return { succeeded, decisive, evidence: succeeded ? "Anna's diary is on Mallory's list" : "Mallory's list is empty" }
  },
} satisfies Attack
