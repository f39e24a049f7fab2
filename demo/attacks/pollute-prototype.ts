import type { Attack } from '../lab/attack.js'

export default {
  title: 'Gain a right by a field called __proto__',
  risk: 'API3',
  cwe: 1321,
  concern: 'validation',
  story: 'What clients send is merged into an object. A field called __proto__ reaches the one from which all others inherit, and whoever has no rights of their own inherits one.',
  defence: 'No field can be called __proto__ or constructor, wherever in the body it stands.',
  refusal: { status: 400, code: 'FST_BASTION_VALIDATION_NAME' },
  async run ({ step, person }) {
    const mallory = await person()
    step('Mallory consents to research, and sends a right along')
    const decisive = await mallory.ask('PUT', '/users/me/consents/research', { raw: '{"version":"1","given":true,"__proto__":{"audit":true}}', headers: { 'content-type': 'application/json' } })
    step('She reads what is recorded of others')
    const { status, body } = await mallory.ask('GET', '/audit')
    return { succeeded: status === 200, decisive, evidence: status === 200 ? `The records of the admins are open to her: ${body.items.length}` : 'The records are closed to her' }
  },
} satisfies Attack
