import type { Attack } from '../lab/attack.js'
import { visitor } from '../lab/cross-site.js'

export default {
  title: 'Read a profile from a frame without an origin',
  risk: 'API8',
  cwe: 346,
  concern: 'cors',
  story: "One other origin may read answers. A frame that is shut in a sandbox has the origin “null”, on any site. Anna looks at Mallory's page, in which there is one.",
  defence: 'The origin null is nobody: it is none of those that are allowed, and cannot be.',
  refusal: { status: 200 },
  async run (target) {
    const { username, readFrom } = await visitor(target)
    target.step('The frame asks for it')
    const { exchange: decisive, isRead: succeeded } = await readFrom('null')
    return { succeeded, decisive, evidence: succeeded ? `Its script reads who Anna is: ${username}` : 'The browser gives its script nothing' }
  },
} satisfies Attack
