/** What people learn by mail of their own account: whatever changes how it is signed in to, and sign-ins that look like somebody else's. */
import type { Portal } from './app.js'
import type { UserRow } from './data/tables.js'

/** Failures before a sign-in of which its user is told. */
const MANY = 3
/** Mails about sign-ins that an account gets. */
const PER_ACCOUNT = ['1/hour', '5/day']

/** The one whose account it is learns of it, whoever did it. */
export function tell ({ post }: Portal, user: UserRow, subject: string, what: string): void {
  if (user.email_confirmed_at === null) return
  post(async () => ({ to: user.email, subject, text: letter(user, what) }))
}

/** Where the name is another one than before, at the address that the account had. */
export function tellNewName (portal: Portal, before: UserRow, { username }: UserRow): void {
  if (username !== before.username) tell(portal, before, 'Your name was changed', `Signing in takes the name ${username} from now on`)
}

/** A second factor that was not good, which nobody is asked for without a first one; and a password that was right after several that were not. */
export function tellOfSignIns ({ app, accounts, post }: Portal): void {
  app.events.listen(({ type, address, details: { user: id, reason, failures } }) => {
    const what = type === 'mfa_failure' && /^(?:wrong(?: passkey)?|used before)$/.test(String(reason))
      ? 'Somebody got as far as the second factor, and showed none that is good'
      : type === 'login_success' && Number(failures) >= MANY ? `A password was right after ${String(failures)} that were not` : null
    if (what === null || typeof id !== 'string') return
    post(async () => {
      const user = await accounts.byId(id)
      if (user === null || user.email_confirmed_at === null) return null
      await app.limits.check('notice', PER_ACCOUNT, id)
      return { to: user.email, subject: 'Somebody signs in as you, or tries to', text: letter(user, `${what}, from ${address ?? 'an address that is not known'}`) }
    })
  })
}

function letter ({ username }: UserRow, what: string): string {
  return `${what}: account ${username}.\n\nIf it was not you, POST /auth/forgot and choose a new password, which ends all sign-ins; then ask an administrator to take away the second factors and API keys of the account.`
}
