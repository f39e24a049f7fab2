/** Elements, made without markup: whatever text the portal gives stays text. */
import { Refused, Unreachable } from './ask.js'

/** Attributes that are code or markup. */
const REFUSED = /^(?:on|srcdoc$|style$|innerhtml$|outerhtml$)/i
const ADDRESSES = ['href', 'src', 'action', 'formaction']
const SAFE_ADDRESS = /^(?:https?:\/\/|mailto:|data:image\/)/i
const dateTime = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'short' })
const date = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium' })

/** @typedef {Node | string | number | false | null | undefined | readonly unknown[]} Child A list is one of more of them; what is false or nothing is left out. */

/**
 * An element: `h('button', { type: 'button', onclick: () => … }, 'Save')`. `onclick` and the like are functions; true and false are attributes
 * that are there or not; null and undefined are left out; the rest are attributes as they are written in HTML (`class`, `for`, `aria-label`).
 *
 * @template {keyof HTMLElementTagNameMap} Name
 * @param {Name} name
 * @param {Record<string, unknown>} [attributes]
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[Name]}
 */
export function h (name, attributes = {}, ...children) {
  const element = document.createElement(name)
  for (const [key, value] of Object.entries(attributes)) set(element, key, value)
  append(element, children)
  return element
}

/** @type {(element: HTMLElement, key: string, value: unknown) => void} */
function set (element, key, value) {
  if (value === null || value === undefined || value === false) return
  if (key.startsWith('on') && typeof value === 'function') element.addEventListener(key.slice(2), /** @type {EventListener} */ (value))
  else if (REFUSED.test(key)) throw new TypeError(`h: ${key} is no attribute of this page's elements`)
  else if (ADDRESSES.includes(key) && !isSafe(String(value))) throw new TypeError(`h: no address for ${key}`)
  else if (key === 'value' && element instanceof HTMLTextAreaElement) element.defaultValue = String(value)
  else element.setAttribute(key, value === true ? '' : String(value))
}

/** In this portal, or with a scheme of the list: as the browser reads it, which leaves out tabs and turns backslashes. @param {string} address */
function isSafe (address) {
  if (!URL.canParse(address, window.location.href)) return false
  return new URL(address, window.location.href).origin === window.location.origin || SAFE_ADDRESS.test(address)
}

/** @type {(element: Node, children: any) => void} */
function append (element, children) {
  if (Array.isArray(children)) for (const child of children) append(element, child)
  else if (children !== null && children !== undefined && children !== false) element.appendChild(children instanceof Node ? children : document.createTextNode(String(children)))
}

/** Of elements with an id that others refer to. */
let ids = 0
/** @param {string} what */
export const newId = what => `${what}-${++ids}`

/**
 * What belongs together, under a heading, with a place for what goes wrong in it.
 *
 * @param {string} title
 * @param {...Child} children
 */
export function card (title, ...children) {
  const id = newId('title')
  return h('section', { class: 'card', 'aria-labelledby': id }, h('h2', { id, tabindex: '-1' }, title), children, h('p', { role: 'alert' }))
}

/**
 * A field with its label: `field('Name', { name: 'username', required: true })`. `as` is `input`, `textarea` or `select`, of which `options`
 * are `[value, text]`; `hint` is said with it.
 *
 * @param {string} label
 * @param {{ as?: 'input' | 'textarea' | 'select', hint?: string, options?: readonly (readonly [string, string])[] } & Record<string, unknown>} attributes
 */
export function field (label, { as = 'input', hint, options = [], value, ...attributes }) {
  const hintId = hint === undefined ? undefined : newId('hint')
  // As a default: a form that is reset has it again.
  const choices = options.map(([of, text]) => h('option', { value: of, selected: of === value }, text))
  const control = h(as, { ...attributes, value: as === 'select' ? undefined : value, 'aria-describedby': hintId }, choices)
  return h('div', { class: 'field' }, h('label', {}, h('span', {}, label), control), hint !== undefined && h('p', { id: hintId, class: 'hint' }, hint))
}

/**
 * A box to tick, or one of several.
 *
 * @param {string} label
 * @param {Record<string, unknown>} attributes
 */
export function choice (label, attributes) {
  return h('label', { class: 'choice' }, h('input', { type: 'checkbox', ...attributes }), h('span', {}, label))
}

/**
 * A form whose sending is done by `action`, with what is in its fields, where it stands.
 *
 * @param {Record<string, unknown>} attributes
 * @param {(values: Record<string, string>, form: HTMLFormElement) => unknown} action
 * @param {...Child} children
 */
export function form (attributes, action, ...children) {
  const element = h('form', { method: 'post', ...attributes }, children)
  element.addEventListener('submit', event => {
    event.preventDefault()
    run(element, () => action(valuesOf(element), element))
  })
  return element
}

/**
 * A button that does something, where it stands. `{ class: 'first' }` is what the card is for, `{ class: 'danger' }` what cannot be undone.
 *
 * @param {string} label
 * @param {(button: HTMLButtonElement) => unknown} action
 * @param {Record<string, unknown>} [attributes]
 */
export function button (label, action, attributes = {}) {
  const element = h('button', { type: 'button', ...attributes }, label)
  element.addEventListener('click', () => { run(element, () => action(element)) })
  return element
}

/**
 * A list, or what is said where there is nothing.
 *
 * @param {HTMLLIElement[]} items
 * @param {string} none
 * @param {Record<string, unknown>} [attributes]
 */
export function list (items, none, attributes = {}) {
  return h('ul', { class: 'list', ...attributes }, items.length > 0 ? items : h('li', { class: 'quiet' }, none))
}

/**
 * An item of a list: what it is, more about it, and what can be done with it.
 *
 * @param {Child} name
 * @param {Child} more
 * @param {...Child} actions
 */
export function item (name, more, ...actions) {
  return h('li', {}, h('div', {}, h('span', {}, name), h('span', { class: 'quiet' }, more)), actions.length > 0 && h('div', { class: 'toolbar' }, actions))
}

/**
 * A table that scrolls by itself where the screen is narrow. A column has a title and says of a row what is in the cell; of the first, which
 * names the row, the cells are headings.
 *
 * @template Row
 * @param {string} caption
 * @param {readonly { title: string, cell: (row: Row) => Child, class?: string }[]} columns
 * @param {readonly Row[]} rows
 * @param {string} [none] what is said where there are no rows
 */
export function table (caption, columns, rows, none = 'There is nothing here.') {
  const id = newId('caption')
  const head = h('tr', {}, columns.map(({ title, class: name }) => h('th', { scope: 'col', class: name }, title)))
  const cells = rows.map(row => h('tr', {}, columns.map(({ cell, class: name }, i) => i === 0 ? h('th', { scope: 'row', class: name }, cell(row)) : h('td', { class: name }, cell(row)))))
  const empty = h('tr', {}, h('td', { class: 'quiet', colspan: columns.length }, none))
  return h('div', { class: 'scroll', role: 'region', tabindex: '0', 'aria-labelledby': id },
    h('table', {}, h('caption', { id }, caption), h('thead', {}, head), h('tbody', {}, rows.length > 0 ? cells : empty)))
}

/**
 * What is known of one thing, by name.
 *
 * @param {Record<string, Child>} facts
 */
export function facts (facts) {
  return h('dl', {}, Object.entries(facts).map(([name, value]) => [h('dt', {}, name), h('dd', {}, value)]))
}

/**
 * A word that stands out. It never says by its colour alone what it says.
 *
 * @param {string} text
 * @param {'good' | 'bad' | 'warn' | 'plain'} [kind]
 */
export const badge = (text, kind = 'plain') => h('span', { class: `badge ${kind}` }, text)

/** @param {HTMLFormElement} form */
export function valuesOf (form) {
  return /** @type {Record<string, string>} */ (Object.fromEntries([...new FormData(form)].filter(([, value]) => typeof value === 'string')))
}

/** @param {string | null | undefined} time */
export const told = time => time === null || time === undefined ? 'never' : dateTime.format(new Date(time))
/** @param {string} time */
export const day = time => date.format(new Date(time))

/**
 * Does what a thing of the page is for: one at a time in its card, which says meanwhile that it is busy, and then what went wrong.
 *
 * @param {Element} element
 * @param {() => unknown} action
 */
export async function run (element, action) {
  const place = /** @type {HTMLElement} */ (element.closest('.card, dialog') ?? document.getElementById('outlet'))
  if (place.ariaBusy === 'true') return
  place.ariaBusy = 'true'
  const status = document.getElementById('status')
  if (status !== null) status.textContent = ''
  await attempt(place, action)
  place.ariaBusy = 'false'
}

/**
 * The same without the waiting: for what is loaded beside the rest.
 *
 * @param {HTMLElement} place
 * @param {() => unknown} action
 */
export async function attempt (place, action) {
  const alert = place.querySelector(':scope > [role=alert]') ?? document.getElementById('fault')
  if (alert !== null) alert.textContent = ''
  try {
    await action()
  } catch (error) {
    if (alert !== null) alert.textContent = said(error)
  }
}

/**
 * What to say of what went wrong.
 *
 * @param {any} error
 * @returns {string}
 */
export function said (error) {
  if (error instanceof Refused || error instanceof Unreachable) return error.message
  // The page was left, or somebody stopped it.
  if (error instanceof DOMException && error.name === 'AbortError') return ''
  console.error(error)
  return 'Something went wrong in this page. Load it again.'
}
