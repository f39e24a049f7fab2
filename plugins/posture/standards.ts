/** Which requirements each control serves: OWASP ASVS 5.0 and the OWASP API Security Top 10 (2023). */

export interface Standard {
  /** ASVS 5.0 ids that it does the work of, or a part of it. */
  asvs: readonly string[]
  /** Risks of the API Top 10. */
  api: readonly string[]
}

/** By the concern's name in {@link Posture.concerns}. What is not here guards availability of the suite itself, or only tells. */
export const STANDARDS: Readonly<Record<string, Standard>> = {
  access: { asvs: ['8.2.1', '8.3.1', '7.5.3', '10.3.2'], api: ['API5:2023'] },
  resource: { asvs: ['8.2.2', '8.4.1'], api: ['API1:2023'] },
  identity: { asvs: ['7.2.1', '9.1.1', '10.3.1'], api: ['API2:2023'] },
  sessions: { asvs: ['7.2.4', '7.3.1', '7.4.1', '3.3.1'], api: ['API2:2023'] },
  dpop: { asvs: ['10.3.5'], api: ['API2:2023'] },
  certificates: { asvs: ['12.1.1'], api: ['API8:2023'] },
  limits: { asvs: ['2.4.1', '6.3.1'], api: ['API4:2023', 'API6:2023'] },
  flood: { asvs: ['2.4.1'], api: ['API4:2023'] },
  overload: { asvs: ['15.2.2', '15.4.4'], api: ['API4:2023'] },
  validation: { asvs: ['2.2.1', '2.2.2', '15.3.3', '15.3.5'], api: ['API3:2023', 'API10:2023'] },
  exposure: { asvs: ['8.2.3', '15.3.1', '14.2.6'], api: ['API3:2023'] },
  headers: { asvs: ['3.4.1', '3.4.3', '3.4.4', '3.4.5', '14.3.2'], api: ['API8:2023'] },
  transport: { asvs: ['4.1.2', '4.1.3', '12.2.1'], api: ['API8:2023'] },
  cors: { asvs: ['3.4.2'], api: ['API8:2023'] },
  csrf: { asvs: ['3.5.1'], api: ['API8:2023'] },
  cards: { asvs: ['16.2.5'], api: ['API3:2023'] },
  encryption: { asvs: ['11.3.2', '11.3.3', '14.2.4'], api: [] },
  uploads: { asvs: ['5.2.1', '5.2.2', '5.2.6', '5.3.2'], api: ['API4:2023'] },
  audit: { asvs: ['16.3.3'], api: [] },
  versions: { asvs: [], api: ['API9:2023'] },
  reports: { asvs: ['3.4.7'], api: [] },
  server: { asvs: ['4.1.3'], api: ['API4:2023'] },
}

/** Of a finding's rule, or of a change: `limits/public`. */
export function standardOf (rule: string): Standard {
  return STANDARDS[rule.split('/', 1)[0]!] ?? { asvs: [], api: [] }
}
