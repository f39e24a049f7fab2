import type { Attack } from '../lab/attack.js'

export default {
  title: 'Give an accomplice a role without a trace',
  risk: 'API8',
  cwe: 778,
  concern: 'audit',
  story: 'Somebody has the password of an admin, and gives Mallory a role. When the admins look, nothing tells of it.',
  defence: 'A change of permissions is recorded, in a chain that cannot be cut, before it is answered.',
  refusal: { status: 200 },
  async run ({ step, must, person, signIn }) {
    const mallory = await person()
    const admin = await signIn('admin')
    step('The admin gives Mallory a role')
    await must(admin.ask('PATCH', `/users/${mallory.id}/role`, { json: { role: 'moderator' } }), 200)
    step('Another looks into the trail')
    const decisive = await must(admin.ask('GET', '/audit?type=permission_change'), 200)
    const found = decisive.body.items.find((event: object) => JSON.stringify(event).includes(`"${mallory.id}"`))
    return { succeeded: found === undefined, decisive, evidence: found === undefined ? 'Nothing tells of Mallory' : `It tells of Mallory: ${JSON.stringify(found.details).slice(0, 120)}` }
  },
} satisfies Attack
