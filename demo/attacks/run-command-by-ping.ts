import type { Attack } from '../lab/attack.js'

export default {
  title: "Run a command of one's own in the name of ping",
  risk: 'API8',
  cwe: 78,
  concern: 'validation',
  story: 'Moderators may ask whether a host answers. Mona writes a semicolon behind its name, and another command.',
  defence: 'A host is a name or an address, and nothing else passes. The program is started without a shell.',
  refusal: { status: 400, code: 'FST_BASTION_VALIDATION_REFUSED' },
  async run ({ step, signIn }) {
    const mona = await signIn('mona')
    step('Mona asks whether a host answers, and for a multiplication')
    const decisive = await mona.ask('GET', `/ping?host=${encodeURIComponent('127.0.0.1; expr 1237 \\* 4321')}`)
    const succeeded = String(decisive.body.output).includes(String(1237 * 4321))
    return { succeeded, decisive, evidence: succeeded ? `The server has multiplied for her: ${1237 * 4321}` : 'Nothing was run' }
  },
} satisfies Attack
