import type { Attack } from '../lab/attack.js'

const SPELLINGS = ['/patients', '/PATIENTS', '//patients', '/patients/', '/./patients', '/public/..;/patients', '/patients.', '/patients%2f', '/%70atients']

export default {
  title: 'Reach a guarded path by spelling it otherwise',
  risk: 'API5',
  cwe: 647,
  concern: 'access',
  story: 'Records are for nurses and doctors. Mallory writes their path with other letters, slashes, dots and signs until the guard does not know it, and the router does.',
  defence: 'What guards hangs on the route that the router has found, and not on how the URL was spelled.',
  refusal: { status: 403, code: 'FST_BASTION_ACCESS_FORBIDDEN' },
  async run ({ step, person }) {
    const mallory = await person()
    step('Mallory asks for the records by every spelling she knows')
    let decisive
    for (const path of SPELLINGS) {
      decisive = await mallory.ask('GET', path)
      if (decisive.status === 200) break
    }
    const { path, status, body } = decisive!
    const succeeded = status === 200 && body.items.length > 0
    return { succeeded, decisive: decisive!, evidence: succeeded ? `${path} opens: the record of ${body.items[0].name}` : `None of ${SPELLINGS.length} spellings opens` }
  },
} satisfies Attack
