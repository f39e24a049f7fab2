/** A button for what cannot be undone: it asks before it does it. */
import { h, run } from './dom.js'

/**
 * @param {string} label
 * @param {string} question
 * @param {() => unknown} action
 * @param {string} [about] what it is done to, for those who do not see where the button stands
 */
export function sure (label, question, action, about) {
  const place = h('span', { class: 'toolbar' })
  const first = h('button', { type: 'button', class: 'danger', 'aria-label': about === undefined ? undefined : `${label}: ${about}`, onclick: ask }, label)
  place.append(first)
  return place

  function ask () {
    const yes = h('button', { type: 'button', class: 'danger', onclick: () => run(place, action).then(back) }, `Yes, ${label.toLowerCase()}`)
    place.replaceChildren(h('span', { role: 'status' }, question), yes, h('button', { type: 'button', onclick: back }, 'No'))
    yes.focus()
  }

  function back () {
    if (!place.isConnected) return
    const isHere = place.contains(document.activeElement)
    place.replaceChildren(first)
    if (isHere) first.focus()
  }
}
