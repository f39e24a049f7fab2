import type { Attack } from '../lab/attack.js'

export default {
  title: 'Read the document of a stranger',
  risk: 'API1',
  cwe: 639,
  concern: 'access',
  story: 'Mallory has seen the id of a document in a link that was passed on, and asks for it.',
  defence: 'The document is loaded, and its owner and shares looked at, before the handler runs. To strangers it does not exist.',
  refusal: { status: 404, code: 'FST_BASTION_ERRORS_NOT_FOUND' },
  async run ({ step, must, person }) {
    step('Anna writes a document')
    const anna = await person()
    const { body: { id } } = await must(anna.ask('POST', '/documents', { json: { title: 'Salaries', content: 'Anna earns 4,200' } }), 201)
    step('Mallory asks for it')
    const mallory = await person()
    const decisive = await mallory.ask('GET', `/documents/${id}`)
    const succeeded = decisive.status === 200 && decisive.body.content === 'Anna earns 4,200'
    return { succeeded, decisive, evidence: succeeded ? `Mallory reads: ${decisive.body.content}` : 'Mallory is told that there is no such document' }
  },
} satisfies Attack
