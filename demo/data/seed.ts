/** The accounts and things that a first start finds. */
import type { Cipher } from '../../plugins/cipher/index.js'
import type { Passwords } from '../../plugins/passwords/index.js'
import type { Sql } from '../../plugins/sql.js'
import { newId } from '../accounts.js'
import { PatientFields } from '../patients.js'
import { build, first, type PlanName, type RoleName } from './tables.js'

interface SeededAccount { username: string, role: RoleName, plan: PlanName, isActive: boolean }

export const SEEDED: readonly SeededAccount[] = [
  ['admin', 'admin'], ['mona', 'moderator'], ['max', 'manager'], ['alice', 'user', 'pro'], ['bob', 'user', 'free'], ['gus', 'guest'],
  ['nora', 'nurse'], ['dora', 'doctor'], ['ina', 'user', 'basic', false],
].map(([username, role, plan = 'basic', isActive = true]) => ({ username, role, plan, isActive }) as SeededAccount)

/** Any number, the same in every process: who seeds holds it. */
const SEED_LOCK = 7_266_814
const ITEMS = ['Desk lamp', 'Notebook']
const PATIENTS = [
  { name: 'Paula Abel', ssn: '123-45-6789', diagnosis: 'Essential hypertension, stage 1' },
  { name: 'Piet Brandt', ssn: '234-56-7891', diagnosis: 'Type 2 diabetes mellitus without complications' },
  { name: 'Petra Claes', ssn: '345-67-8912', diagnosis: 'Seasonal allergic rhinitis' },
]
const TITLES = ['First steps', 'What I learnt this week']

/**
 * Fills an empty database.
 *
 * @returns true where it was empty
 */
export async function seed (sql: Sql, { passwords, cipher }: { passwords: Passwords, cipher: Cipher }, password: string): Promise<boolean> {
  if (await isFilled(sql)) return false
  const hashes = await Promise.all(SEEDED.map(() => passwords.hash(password)))
  return sql.transaction(async transaction => {
    await transaction.query('select pg_advisory_xact_lock($1)', [SEED_LOCK])
    if (await isFilled(transaction)) return false
    for (const [i, account] of SEEDED.entries()) await seedAccount(transaction, account, hashes[i]!, i)
    for (const [i, patient] of PATIENTS.entries()) await seedPatient(transaction, cipher, patient, i)
    return true
  })
}

async function isFilled (sql: Sql): Promise<boolean> {
  return await first(sql, build.selectFrom('users').select('id').limit(1)) !== null
}

async function seedAccount (sql: Sql, { username, role, plan, isActive }: SeededAccount, passwordHash: string, i: number): Promise<void> {
  const id = newId()
  await first(sql, build.insertInto('users').values({
    id,
    username,
    email: `${username}@portal.example`,
    email_confirmed_at: new Date(),
    password_hash: passwordHash,
    role,
    plan,
    is_active: isActive,
    age: null,
    phone: null,
    website: null,
    bio: null,
  }))
  await first(sql, build.insertInto('orders').values(ITEMS.map((item, n) => ({
    id: newId(), user_id: id, item, total: 1900 + i * 100 + n * 550, currency: 'EUR', created_at: new Date(Date.now() - n * 86_400_000),
  }))))
  await first(sql, build.insertInto('posts').values(TITLES.map(title => `${title} (${username})`).map((title, n) => ({ title, at: new Date(Date.now() - (i * 2 + n) * 60_000) })).map(({ title, at }) => ({
    id: newId(), author_id: id, title, title_upper: title.toUpperCase(), content: `<p>${title}</p>`, tags: ['hello'], created_at: at, updated_at: at,
  }))))
  await first(sql, build.insertInto('documents').values({ id: newId(), owner_id: id, title: `Notes of ${username}`, content: `What ${username} wants to remember.` }))
}

async function seedPatient (sql: Sql, cipher: Cipher, patient: typeof PATIENTS[number], i: number): Promise<void> {
  const id = newId()
  const sealed = cipher.sealRow(PatientFields, { table: 'patients', row: id }, patient)
  await first(sql, build.insertInto('patients').values({ id, ...sealed, created_at: new Date(Date.now() - (PATIENTS.length - i) * 60_000) }))
}
