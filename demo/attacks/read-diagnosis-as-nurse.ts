import type { Attack } from '../lab/attack.js'

export default {
  title: 'Read diagnoses with the rights of a nurse',
  risk: 'API3',
  cwe: 213,
  concern: 'exposure',
  story: 'Nurses need the names of patients. The list holds more than the page shows: Nora looks at what is sent.',
  defence: 'Each field of an answer says who may see it; for others it is neither decrypted nor sent.',
  refusal: { status: 200 },
  async run ({ step, signIn }) {
    const nora = await signIn('nora')
    step('Nora reads the list of patients')
    const decisive = await nora.ask('GET', '/patients')
    const { items: [patient] } = decisive.body
    const succeeded = patient.diagnosis !== undefined || patient.ssn !== undefined
    return { succeeded, decisive, evidence: succeeded ? `${patient.name}: ${patient.diagnosis}, ${patient.ssn}` : `Of a patient she reads: ${Object.keys(patient).join(', ')}` }
  },
} satisfies Attack
