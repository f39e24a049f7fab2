/** Health records: which fields of a patient are encrypted, and by which keys. */
import { Type, type TString } from '@sinclair/typebox'
import { encryptedColumns, type CipherOptions, type ReencryptOptions } from '../plugins/cipher/index.js'
import { Encrypted, plainText } from '../schemas/index.js'
import type { PortalKeys } from './keys.js'

/** A social security number of the United States, as it is written; of areas, groups and serials that are given out. */
export const Ssn = Type.String({ minLength: 11, maxLength: 11, pattern: '^(?!000|666|9\\d\\d)\\d{3}-(?!00)\\d{2}-(?!0000)\\d{4}$', examples: ['123-45-6789'] })
export const PatientName = plainText({ minLength: 1, maxLength: 200, maxLines: 1, examples: ['Paula Abel'] })
export const Diagnosis = plainText({ minLength: 1, maxLength: 2000, maxLines: 50, examples: ['Essential hypertension'] })

/** What of a patient is unreadable in the database. The name is for whoever may read patients, the rest for clinicians. */
export const PatientFields = Type.Object({
  name: Encrypted(seenBy('patients:read', PatientName)),
  ssn: Type.Optional(Encrypted(seenBy('patients:read:clinical', Ssn), { index: 'ssn_index' })),
  diagnosis: Type.Optional(Encrypted(seenBy('patients:read:clinical', Diagnosis))),
})

export const PATIENTS = { table: 'patients', key: 'id', columns: encryptedColumns(PatientFields) } as const satisfies ReencryptOptions

export function encryptionOf ({ encryption, indexes }: PortalKeys): CipherOptions {
  return { keys: encryption, index: { keys: indexes, columns: { 'patients.ssn': { normalize: 'digits' } } } }
}

function seenBy (permission: string, schema: TString): TString {
  return { ...schema, visibleTo: permission }
}
