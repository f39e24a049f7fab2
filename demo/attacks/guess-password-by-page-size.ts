import type { Attack } from '../lab/attack.js'

/** Of the password, as much as shows that the rest can be had too. */
const LETTERS = 12

export default {
  title: 'Read a password letter by letter off the length of a list',
  risk: 'API8',
  cwe: 89,
  concern: 'validation',
  story: 'How many posts a page has is put into the statement as it is sent. Mallory sends a question about a password: one post means yes, none no.',
  defence: 'A number is taken for a number: whatever else stands there is refused before anything reads it.',
  refusal: { status: 400, code: 'FST_BASTION_VALIDATION_REFUSED' },
  async run ({ step, ask, person }) {
    const anna = await person()
    step("Somebody asks, one bit after another, for the codes of the password's letters")
    let known = ''
    let decisive
    for (let place = 1; place <= LETTERS; place++) {
      let code = 0
      for (const bit of [64, 32, 16, 8, 4, 2, 1]) {
        const question = `(select case when ascii(substr(password,${place},1))&${bit}>0 then 1 else 0 end from users where username='${anna.username}')`
        decisive = await ask('GET', `/posts?limit=${encodeURIComponent(question)}`)
        if (decisive.status !== 200) return { succeeded: false, decisive, evidence: 'The question is not answered' }
        code += bit * decisive.body.items.length
      }
      known += String.fromCharCode(code)
    }
    return { succeeded: anna.password.startsWith(known), decisive: decisive!, evidence: `Anna's password begins with ${known}` }
  },
} satisfies Attack
