import type { Attack } from '../lab/attack.js'

export default {
  title: 'Have the page of an error run a script of a link',
  risk: 'API8',
  cwe: 79,
  concern: 'errors',
  story: 'Whoever follows a link of Mallory finds nothing, and a page that repeats what was asked for: a script.',
  defence: 'Errors are problem details in JSON, and repeat nothing of what was sent.',
  refusal: { status: 404, code: 'FST_BASTION_ERRORS_NOT_FOUND' },
  async run ({ step, ask }) {
    step('Somebody follows the link')
    const decisive = await ask('GET', '/news/%3Cscript%3Ealert(document.domain)%3C/script%3E')
    const type = String(decisive.headers['content-type'])
    const succeeded = type.startsWith('text/html') && decisive.text.includes('<script>alert(document.domain)</script>')
    return { succeeded, decisive, evidence: succeeded ? 'The script stands in a page of the service' : `The answer is ${type}, without it` }
  },
} satisfies Attack
