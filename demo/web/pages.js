/**
 * The pages: their names in the address (`#posts`), their titles, where they stand in the navigation, and who may open them. What is said
 * here hides what would be refused anyway: the portal itself decides.
 *
 * A page is a module of its own, `pages/<name>.js`, loaded when it is first opened:
 *
 *     export default {
 *       async show (outlet, { caller, path, signal, tell, go }) {
 *         const { items } = await ask('GET', '/posts', undefined, { signal })
 *         outlet.append(card('Newest', list(items.map(({ title }) => h('li', {}, title)), 'There are none yet.')))
 *         return () => {}
 *       },
 *     }
 *
 * - `outlet` is empty, below the heading that the shell has written and focused. What belongs together is a `card` of dom.js: what its
 *   buttons and forms are for is done by `run`, which shows there that it goes on and what went wrong. Nothing else is styled than by the
 *   classes of style.css, and nothing is written as markup: `h` makes elements, and text is text.
 * - `path` is what follows the name: in `#posts/abc` `['abc']`. A page is shown anew when it changes.
 * - `tell` says to everybody, in the status line above the page, what was done. `go('posts/abc')` opens a page.
 * - What `show` answers is called when the page is left; `signal` is aborted then too: hand it to `ask`, and to listeners beyond the outlet.
 * - What is not loaded as yet may be shown later: the page counts as shown when `show` is done. What it throws is shown in its place.
 * - Where the portal wants to know again who asks, `ask` sees to it. Where nobody is signed in any more the shell sees to it.
 *
 * @typedef {object} Caller What the portal says of who asks, and of itself (GET /portal.json)
 * @property {{ id: string, username: string, email: string, emailConfirmed: boolean, role: string, plan: string, phone?: string | null, website?: string | null, bio?: string | null, createdAt: string } | null} user
 *   null: nobody is signed in
 * @property {string[]} permissions
 * @property {'open' | 'quiet'} registration
 * @property {boolean} mail Mails are sent
 * @property {boolean} lab The attack lab is there
 * @property {boolean} docs The documentation of the API is there
 *
 * @typedef {object} Context
 * @property {Caller} caller
 * @property {string[]} path
 * @property {AbortSignal} signal
 * @property {(text: string) => void} tell
 * @property {(address: string) => void} go
 * @property {(user: NonNullable<Caller['user']>) => Promise<void>} enter Of sign-ins: somebody is signed in now
 * @property {(message: string) => void} leave Of sign-outs: nobody is
 * @property {(user: NonNullable<Caller['user']>) => void} changed The profile is another one now
 *
 * @typedef {(() => void) | undefined | void} Left
 *
 * @typedef {object} Page
 * @property {(outlet: HTMLElement, context: Context) => Left | Promise<Left>} show
 *
 * @typedef {object} Entry
 * @property {string} name In the address, and of the module
 * @property {string} title
 * @property {string} [group] In the navigation; without one it is not there
 * @property {(caller: Caller) => boolean} opens
 */

/** @param {Caller} _caller */
const anybody = _caller => true
/** @param {Caller} caller */
const nobody = ({ user }) => user === null
/** @param {Caller} caller */
const somebody = ({ user }) => user !== null
/** @param {Caller} caller */
const admin = ({ user }) => user?.role === 'admin'
/** @type {(permission: string) => (caller: Caller) => boolean} */
const can = permission => ({ permissions }) => permissions.includes(permission)

const ACCOUNT = 'Your account'
const CONTENT = 'Portal'
const ADMINISTRATION = 'Administration'

/** @type {readonly Entry[]} */
export const PAGES = [
  { name: 'sign-in', title: 'Sign in', group: ACCOUNT, opens: nobody },
  { name: 'register', title: 'Create an account', group: ACCOUNT, opens: nobody },
  { name: 'recover', title: 'Choose a new password', opens: anybody },
  { name: 'confirm', title: 'Confirm your address', opens: anybody },
  { name: 'profile', title: 'Your profile', group: ACCOUNT, opens: somebody },
  { name: 'security', title: 'Security', group: ACCOUNT, opens: somebody },
  { name: 'devices', title: 'Devices', group: ACCOUNT, opens: somebody },
  { name: 'keys', title: 'API keys', group: ACCOUNT, opens: somebody },
  { name: 'privacy', title: 'Privacy', group: ACCOUNT, opens: somebody },
  { name: 'posts', title: 'Posts', group: CONTENT, opens: anybody },
  { name: 'documents', title: 'Documents', group: CONTENT, opens: somebody },
  { name: 'files', title: 'Files', group: CONTENT, opens: somebody },
  { name: 'lab', title: 'Attack lab', group: ADMINISTRATION, opens: caller => caller.lab && admin(caller) },
  { name: 'audit', title: 'Audit', group: ADMINISTRATION, opens: can('audit:read') },
  { name: 'posture', title: 'Posture', group: ADMINISTRATION, opens: can('posture:read') },
  { name: 'limits', title: 'Limits', group: ADMINISTRATION, opens: admin },
  { name: 'users', title: 'Users and roles', group: ADMINISTRATION, opens: can('users:read') },
]

/** Where somebody lands who asked for nothing else. */
export const HOME = 'profile'
