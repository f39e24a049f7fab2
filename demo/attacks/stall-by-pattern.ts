import type { Attack } from '../lab/attack.js'

/** Letters: the pattern of a hurried team takes twice as long for each more. */
const FROM = 18
const TO = 34
/** Milliseconds in which nobody else is answered; and so many times as long as for a short tag. */
const STALL = 250
const TIMES = 5
const TRIES = 3

export default {
  title: 'Stall the server by thirty letters (ReDoS)',
  risk: 'API4',
  cwe: 1333,
  concern: 'validation',
  story: 'Tags are compared with a pattern. One that almost fits is tried in all ways there are, while nobody else is answered.',
  defence: 'No pattern repeats what repeats itself, and lengths are looked at first.',
  refusal: { status: 400, code: 'FST_BASTION_VALIDATION_REFUSED' },
  async run ({ step, person }) {
    const mallory = await person()
    const post = (letters: number) => mallory.ask('POST', '/posts', { json: { title: 'A tag', content: '<p>What a tag!</p>', tags: [`${'a'.repeat(letters)}!`] } })
    step('Mallory writes posts with longer and longer tags')
    let decisive = await post(FROM)
    let slow = 0
    for (let letters = FROM + 1; letters <= TO && slow < TRIES; decisive = await post(letters)) {
      // A machine that is busy otherwise is not meant: it has to be slow each time, and for this tag alone.
      if (decisive.ms >= STALL && decisive.ms >= TIMES * (await post(1)).ms) slow++
      else [slow, letters] = [0, letters + 1]
    }
    const succeeded = slow === TRIES
    const [tag] = JSON.parse(decisive.requestBody).tags
    return { succeeded, decisive, evidence: `A tag of ${tag.length} letters takes ${Math.round(decisive.ms)} ms${succeeded ? ', each time' : ''}` }
  },
} satisfies Attack
