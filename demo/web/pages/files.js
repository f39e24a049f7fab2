/** Files: put there by choice or by drop, looked at before they are sent, seen on their way, kept, taken back, deleted. */
import { ask, Refused, upload } from '../ask.js'
import { attempt, badge, card, field, h, item, list, told } from '../dom.js'
import { sure } from '../sure.js'

/** @import { Page } from '../pages.js' */
/** @typedef {{ name: string, originalName: string, size: number, type: string, sha256: string, width?: number, height?: number, createdAt: string }} Stored */

const MIB = 1_048_576
/** What the portal takes. It looks for itself; this saves the way there. */
const IMAGES = { url: '/upload/image', what: 'An image', maxBytes: 5 * MIB, maxSide: 4000 }
const DOCUMENTS = { url: '/upload/document', what: 'A document', maxBytes: 10 * MIB, maxSide: Infinity }
/** By their extensions. @type {Readonly<Record<string, { rule: typeof IMAGES, type: string, name: string }>>} */
const KINDS = {
  jpg: { rule: IMAGES, type: 'image/jpeg', name: 'JPEG' },
  jpeg: { rule: IMAGES, type: 'image/jpeg', name: 'JPEG' },
  png: { rule: IMAGES, type: 'image/png', name: 'PNG' },
  gif: { rule: IMAGES, type: 'image/gif', name: 'GIF' },
  webp: { rule: IMAGES, type: 'image/webp', name: 'WebP' },
  pdf: { rule: DOCUMENTS, type: 'application/pdf', name: 'PDF' },
  docx: { rule: DOCUMENTS, type: 'application/vnd.openxmlformats-officedocument.wordprocessingml.document', name: 'Word' },
}
/** Pixels of a preview. */
const PREVIEW = 512

/** @type {Page} */
export default {
  async show (outlet, { signal, tell }) {
    const rows = h('div')
    const yours = card('Yours', rows)
    await draw()
    outlet.append(sender({ signal, tell, draw }), yours)

    async function draw () {
      const { items } = /** @type {{ items: Stored[] }} */ (await ask('GET', '/files', undefined, { signal }))
      rows.replaceChildren(h('p', { class: 'quiet' }, `${items.length} of them, ${sizeOf(items.reduce((sum, { size }) => sum + size, 0))} in all`), list(items.toReversed().map(drawn), 'There are none yet.'))
    }

    /** @param {Stored} file */
    function drawn ({ name, originalName, size, type, sha256, width, height, createdAt }) {
      const measures = width === undefined ? '' : `${width} × ${height}, `
      return item(h('bdi', { class: 'lines' }, originalName), [`${nameOf(type)}, ${measures}${sizeOf(size)}, stored ${told(createdAt)}. SHA-256: `, h('code', {}, sha256)],
        h('a', { class: 'button', href: `/files/${encodeURIComponent(name)}`, download: originalName, 'aria-label': `Download ${originalName}` }, 'Download'),
        sure('Delete', 'Delete it?', async () => {
          await ask('DELETE', `/files/${encodeURIComponent(name)}`)
          yours.querySelector('h2')?.focus()
          await draw()
          tell(`${originalName} is deleted.`)
        }, originalName))
    }
  },
}

/** The card by which files are sent. @param {{ signal: AbortSignal, tell: (text: string) => void, draw: () => Promise<void> }} page */
function sender ({ signal, tell, draw }) {
  const seen = h('div', { class: 'stack' })
  const hint = 'JPEG, PNG, GIF or WebP up to 5 MiB and 4000 × 4000; PDF or Word up to 10 MiB. You may drop it here, too.'
  const choice = field('File', { type: 'file', accept: Object.keys(KINDS).map(extension => `.${extension}`).join(), hint })
  const input = /** @type {HTMLInputElement} */ (choice.querySelector('input'))
  const place = card('Send one', choice, seen)
  input.addEventListener('change', () => { if (input.files?.[0] !== undefined) take(input.files[0]) })
  // Dropped beside the card, it would be opened in place of the page.
  for (const type of ['dragover', 'drop']) window.addEventListener(type, event => { event.preventDefault() }, { signal })
  for (const type of ['dragover', 'dragleave', 'drop']) place.addEventListener(type, () => { place.classList.toggle('over', type === 'dragover') })
  place.addEventListener('drop', event => {
    const file = event.dataTransfer?.files[0]
    if (file !== undefined) take(file)
  })
  return place

  /** @param {File} chosen */
  function take (chosen) {
    if (input.disabled) return
    return attempt(place, async () => {
      tell('')
      seen.replaceChildren()
      input.value = ''
      input.disabled = true
      try {
        const { rule, type } = kindOf(chosen)
        // By its extension: not every system knows the types of all.
        const file = new File([chosen], chosen.name, { type })
        if (file.size > rule.maxBytes) throw new Refused({ detail: `${rule.what} has ${sizeOf(rule.maxBytes)} at most, and this one has ${sizeOf(file.size)}` })
        if (rule === IMAGES) seen.append(await previewOf(file, rule.maxSide))
        await send(file, rule.url)
        await draw()
        tell(`${file.name} is stored.`)
      } catch (error) {
        seen.replaceChildren()
        throw error
      } finally {
        input.disabled = false
        if (document.activeElement === document.body) input.focus()
      }
    })
  }

  /** @param {File} file @param {string} url */
  async function send (file, url) {
    const cancelled = new AbortController()
    const bar = h('progress', { max: '1', value: '0', 'aria-label': `Sending ${file.name}` })
    const part = h('span', { class: 'number', role: 'status' })
    const cancel = h('button', { type: 'button', onclick: () => { cancelled.abort() } }, 'Cancel')
    seen.append(bar, h('div', { class: 'toolbar' }, h('bdi', { class: 'lines' }, file.name), badge(sizeOf(file.size)), part, cancel))
    cancel.focus()
    const body = new FormData()
    body.append('file', file)
    const onprogress = (/** @type {number} */ done) => {
      bar.value = done
      part.textContent = done < 1 ? `${Math.floor(done * 100)} %` : 'It is sent, and looked into.'
    }
    try {
      await upload('POST', url, body, { onprogress, signal: AbortSignal.any([signal, cancelled.signal]) })
    } catch (error) {
      throw cancelled.signal.aborted ? new Refused({ detail: 'Cancelled: nothing of it is stored' }) : error
    }
    for (const gone of [bar, cancel]) gone.remove()
    part.textContent = 'It is stored.'
  }
}

/** @param {File} file */
function kindOf ({ name }) {
  const extension = name.slice(name.lastIndexOf('.') + 1).toLowerCase()
  if (!name.includes('.') || !Object.hasOwn(KINDS, extension)) throw new Refused({ detail: `Only files of these kinds are taken: ${Object.keys(KINDS).join(', ')}` })
  return /** @type {typeof KINDS[string]} */ (KINDS[extension])
}

/** @param {string} type */
function nameOf (type) {
  return Object.values(KINDS).find(kind => kind.type === type)?.name ?? type
}

/** The image, small, and drawn: the policy of the page lets no image in that is not the portal's. @param {File} file @param {number} maxSide */
async function previewOf (file, maxSide) {
  const image = await createImageBitmap(file).catch(() => { throw new Refused({ detail: 'This browser can make no image of it: it is damaged, or another kind of file' }) })
  const { width, height } = image
  try {
    if (Math.max(width, height) > maxSide) throw new Refused({ detail: `An image is at most ${maxSide} × ${maxSide}, and this one is ${width} × ${height}` })
    const scale = Math.min(1, PREVIEW / Math.max(width, height))
    const canvas = h('canvas', { class: 'preview', role: 'img', 'aria-label': `Preview of ${file.name}`, width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)) })
    canvas.getContext('2d')?.drawImage(image, 0, 0, canvas.width, canvas.height)
    return h('figure', {}, canvas, h('figcaption', { class: 'quiet' }, `${width} × ${height}`))
  } finally {
    image.close()
  }
}

/** @param {number} bytes */
function sizeOf (bytes) {
  if (bytes < 1024) return `${bytes} B`
  return bytes < MIB ? `${Math.ceil(bytes / 1024)} KiB` : `${(Math.ceil(bytes / MIB * 10) / 10).toLocaleString(undefined)} MiB`
}
