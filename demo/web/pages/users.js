/** Users: found by name, and what an administrator does with their accounts. */
import { ask } from '../ask.js'
import { badge, button, card, day, facts, field, form, h, table } from '../dom.js'
import { sure } from '../sure.js'

/** @import { Context, Page } from '../pages.js' */
/** @typedef {{ id: string, username: string, email?: string, role?: string, isActive?: boolean, createdAt: string }} User What is private is there for who may see it. */

const ROLES = /** @type {const} */ (['guest', 'user', 'moderator', 'manager', 'nurse', 'doctor', 'admin'])

/** @type {Page} */
export default {
  async show (outlet, context) {
    const [id] = context.path
    await (id === undefined ? showAll(outlet, context) : showOne(outlet, context, id))
  },
}

/** @type {(outlet: HTMLElement, context: Context) => Promise<void>} */
async function showAll (outlet, { signal }) {
  const rows = h('div')
  const more = h('div')
  outlet.append(card('Find', form({ id: 'user-search', class: 'toolbar' }, ({ username }) => load(username),
    field('Name', { name: 'username', maxlength: '50', autocapitalize: 'none', spellcheck: 'false', autocomplete: 'off', hint: 'The whole name. Empty: everybody.' }),
    h('button', { class: 'first' }, 'Find')), rows, more))
  await load('')

  /** @param {string} [username] @param {User[]} [before] @param {string} [cursor] */
  async function load (username = '', before = [], cursor) {
    const query = new URLSearchParams({ limit: '50', ...username !== '' && { username }, ...cursor !== undefined && { cursor } })
    const { items, nextCursor } = await ask('GET', `/users?${query}`, undefined, { signal })
    const all = [...before, ...items]
    rows.replaceChildren(table('Users', /** @type {{ title: string, cell: (user: User) => any }[]} */ ([
      { title: 'Name', cell: ({ id, username }) => h('a', { href: `#users/${encodeURIComponent(id)}` }, username) },
      ...all.some(({ role }) => role !== undefined) ? [{ title: 'Role', cell: (/** @type {User} */ { role }) => role }, { title: 'State', cell: stateOf }, { title: 'E-mail', cell: (/** @type {User} */ { email }) => email }] : [],
      { title: 'Since', cell: ({ createdAt }) => day(createdAt) },
    ]), all, 'Nobody has this name.'))
    more.replaceChildren(...nextCursor === null ? [] : [button('More', () => load(username, all, nextCursor))])
    // Where the button was, the first of what it brought.
    if (before.length > 0) rows.querySelectorAll('a')[before.length]?.focus()
  }
}

/** @type {(outlet: HTMLElement, context: Context, id: string) => Promise<void>} */
async function showOne (outlet, context, id) {
  const { caller, signal, tell, go } = context
  const url = `/users/${encodeURIComponent(id)}`
  const user = /** @type {User} */ (await ask('GET', url, undefined, { signal }))
  const { username } = user
  const known = h('div')
  const access = h('div', { class: 'toolbar' })
  const accessCard = card('Access', access)
  draw(user)
  outlet.append(h('p', {}, h('a', { href: '#users' }, 'All users')), h('div', { class: 'grid' },
    card(username, known),
    user.role !== undefined && caller.user?.role === 'admin' && [roleCard(), accessCard, endCard()]))

  /** @param {User} user */
  function draw (user) {
    known.replaceChildren(facts({ Id: h('code', {}, user.id), ...user.email !== undefined && { 'E-mail': user.email, Role: user.role, State: stateOf(user) }, Since: day(user.createdAt) }))
    // The button that was pressed is made anew.
    if (access.contains(document.activeElement)) accessCard.querySelector('h2')?.focus()
    access.replaceChildren(
      user.isActive === true
        ? sure('Deactivate', 'Sign-ins and keys stop at once.', () => act('PATCH', '/active', `${username} is deactivated.`, { isActive: false }), username)
        : button('Activate', () => act('PATCH', '/active', `${username} is active.`, { isActive: true })),
      button('Unlock', () => act('POST', '/unlock', `${username} may try again.`)),
      button('End sign-ins', () => act('DELETE', '/sessions', `${username} is signed out everywhere.`)),
      sure('Take away factors and keys', 'The password alone signs in then.', () => act('DELETE', '/factors', `${username} has no second factor and no key now.`), username))
  }

  async function again () {
    draw(await ask('GET', url, undefined, { signal }))
  }

  function roleCard () {
    return card('Role', form({ id: 'role-form' }, async ({ role }) => {
      await ask('PATCH', `${url}/role`, { role })
      tell(`${username} is ${role} now, and signed out.`)
      await again()
    },
    field('Role', { as: 'select', name: 'role', options: ROLES.map(role => [role, role]), value: user.role, hint: 'Whoever gets another role is signed out, so that nothing goes on with the rights of before.' }),
    h('button', { class: 'first' }, 'Change the role')))
  }

  function endCard () {
    return card('Delete', form({ id: 'delete-form' }, async () => {
      await ask('DELETE', url)
      go('users')
      tell(`The account ${username} is deleted.`)
    },
    h('p', {}, 'What is theirs is deleted, and what the law wants kept is made anonymous. There is no way back.'),
    field('Their name, to be sure', { required: true, pattern: username, title: username, autocomplete: 'off', autocapitalize: 'none' }),
    h('button', { class: 'danger' }, 'Delete the account')))
  }

  /** @type {(method: string, what: string, done: string, body?: object) => Promise<void>} */
  async function act (method, what, done, body) {
    await ask(method, url + what, body)
    tell(done)
    await again()
  }
}

/** @param {User} user */
function stateOf ({ isActive }) {
  return isActive === undefined ? '' : isActive ? badge('active', 'good') : badge('deactivated', 'warn')
}
