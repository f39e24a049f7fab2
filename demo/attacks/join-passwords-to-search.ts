import type { Attack } from '../lab/attack.js'

export default {
  title: 'Have the search answer passwords (SQL injection)',
  risk: 'API8',
  cwe: 89,
  concern: 'sql',
  story: 'What is searched for ends the statement, and joins another one to it, whose rows are those of the users.',
  defence: 'The text of a statement is a constant; values go beside it. The search finds titles that hold such text, of which there are none.',
  refusal: { status: 200 },
  async run ({ step, ask, person }) {
    const anna = await person()
    step('Somebody searches')
    const decisive = await ask('GET', `/search?q=${encodeURIComponent("no%' union select id,0,username,password from users--")}`)
    const found = (decisive.body.items ?? []).find((post: { title: string }) => post.title === anna.username)
    return { succeeded: found?.content === anna.password, decisive, evidence: found === undefined ? `${decisive.body.items?.length} posts found` : `Anna's password is ${found.content}` }
  },
} satisfies Attack
