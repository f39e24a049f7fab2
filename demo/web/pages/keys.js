/** API keys: made for a program, shown once, switched off and on, replaced, deleted. */
import { ask } from '../ask.js'
import { attempt, badge, button, card, choice, field, form, h, item, list, told } from '../dom.js'
import { sure } from '../sure.js'

/** @import { Context, Page } from '../pages.js' */
/** @typedef {{ id: string, name: string, prefix: string, mode: string, scopes: string[], allowedIps: string[] | null, isActive: boolean, createdAt: string, lastUsedAt: string | null, expiresAt: string | null, previousUntil: string | null }} Key */

/** @type {Page} */
export default {
  async show (outlet, context) {
    const { tell, signal } = context
    const rows = h('div')
    const more = h('div')
    const keys = card('Your keys', rows, more)
    const shown = h('div')
    outlet.append(shown, h('div', { class: 'grid' }, keys, newKeyCard(context, async made => {
      reveal(made.key)
      tell(`The key ${made.name} is made.`)
      await load()
    })))
    await load()

    async function load () {
      await attempt(keys, async () => {
        const { items, nextCursor } = await ask('GET', '/api-keys', undefined, { signal })
        rows.replaceChildren(list(items.map(drawn), 'There are none yet.', { id: 'key-list' }))
        follow(nextCursor)
      })
    }

    /** @param {string | null} cursor */
    function follow (cursor) {
      more.replaceChildren()
      if (cursor === null) return
      more.append(button('More', async () => {
        const { items, nextCursor } = await ask('GET', `/api-keys?cursor=${encodeURIComponent(cursor)}`, undefined, { signal })
        const added = items.map(drawn)
        rows.querySelector('ul')?.append(...added)
        follow(nextCursor)
        added[0]?.querySelector('button')?.focus()
      }))
    }

    /** @param {Key} key */
    function drawn (key) {
      const { id, name, prefix, isActive, expiresAt } = key
      const url = `/api-keys/${encodeURIComponent(id)}`
      const isOver = expiresAt !== null && new Date(expiresAt) < new Date()
      return item([name, ' ', isOver ? badge('expired', 'bad') : isActive ? badge('active', 'good') : badge('switched off', 'warn')], [h('code', {}, prefix), h('br'), saidOf(key)],
        button(isActive ? 'Switch off' : 'Switch on', async () => {
          await ask('PATCH', url, { isActive: !isActive })
          tell(`The key ${name} is switched ${isActive ? 'off' : 'on'}.`)
          await again()
        }, { class: 'small', 'aria-label': `Switch ${isActive ? 'off' : 'on'}: ${name}` }),
        button('Replace', async () => {
          const { key: text, previousUntil } = await ask('POST', `${url}/rotate`)
          reveal(text)
          tell(`The key ${name} is replaced. The one before is good until ${told(previousUntil)}.`)
          await load()
        }, { class: 'small', 'aria-label': `Replace: ${name}` }),
        sure('Delete', 'Programs that use it stop.', async () => {
          await ask('DELETE', url)
          tell(`The key ${name} is deleted.`)
          await again()
        }, name))
    }

    async function again () {
      keys.querySelector('h2')?.focus()
      await load()
    }

    /** The one time that it is seen. @param {string} key */
    function reveal (key) {
      const element = card('Your new key',
        h('p', {}, 'Copy it to where the program keeps its secrets: it is shown this once, and the portal itself keeps no more than a hash of it.'),
        h('pre', { class: 'wrap', tabindex: '0' }, h('code', { id: 'new-key' }, key)),
        h('div', { class: 'toolbar' },
          button('Copy', async () => {
            await navigator.clipboard.writeText(key)
            tell('The key is copied.')
          }),
          button('I have kept it', () => {
            shown.replaceChildren()
            keys.querySelector('h2')?.focus()
          }, { class: 'first' })))
      shown.replaceChildren(element)
      element.querySelector('h2')?.focus()
    }
  },
}

/** @param {Key} key */
function saidOf ({ mode, scopes, allowedIps, createdAt, lastUsedAt, expiresAt, previousUntil }) {
  return [
    `${mode === 'test' ? 'for tests; ' : ''}may ${scopes.join(', ') || 'nothing'}`,
    ...allowedIps === null ? [] : [`from ${allowedIps.join(', ')}`],
    `made ${told(createdAt)}, last used ${told(lastUsedAt)}`,
    expiresAt === null ? 'does not expire' : `good until ${told(expiresAt)}`,
    ...previousUntil === null ? [] : [`the one before until ${told(previousUntil)}`],
  ].join('; ')
}

/** @param {Context} context @param {(made: Key & { key: string }) => Promise<void>} made */
function newKeyCard ({ caller }, made) {
  return card('Make a key', form({ id: 'key-form' }, async ({ name, expiresInDays, allowedIps = '', mode }, sent) => {
    const addresses = allowedIps.split(/[\s,]+/).filter(text => text !== '')
    const key = await ask('POST', '/api-keys', {
      name,
      mode,
      scopes: new FormData(sent).getAll('scope'),
      ...expiresInDays !== '' && { expiresInDays: Number(expiresInDays) },
      ...addresses.length > 0 && { allowedIps: addresses },
    })
    sent.reset()
    await made(key)
  },
  field('Name of the program', { name: 'name', required: true, maxlength: '100', autocomplete: 'off' }),
  h('fieldset', {}, h('legend', {}, 'What it may do'), h('div', { class: 'choices' }, caller.permissions.map(scope => choice(scope, { name: 'scope', value: scope })))),
  field('Days until it expires', { name: 'expiresInDays', type: 'number', min: '1', max: '3650', value: '90', hint: 'Empty: it does not.' }),
  field('Addresses it is used from', { as: 'textarea', name: 'allowedIps', rows: '2', hint: 'One a line, such as 192.0.2.7 or 192.0.2.0/24. Empty: from anywhere.' }),
  field('Kind', { as: 'select', name: 'mode', options: [['live', 'Live'], ['test', 'Test']] }),
  h('button', { class: 'first' }, 'Make the key')))
}
