import type { Attack, Exchange } from '../lab/attack.js'

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
    // A machine that is busy otherwise is not meant: it has to be slow each time, and for this tag alone.
    const stalls = async (letters: number) => {
      decisive = await post(letters)
      return decisive.ms >= STALL && decisive.ms >= TIMES * (await post(1)).ms
    }
    step('Mallory writes posts with longer and longer tags, and those that take long again')
    let decisive!: Exchange
    let slow = 0
    for (let letters = FROM; letters <= TO && slow < TRIES; letters++) {
      for (slow = 0; slow < TRIES && await stalls(letters); slow++);
    }
    const succeeded = slow === TRIES
    const [tag] = JSON.parse(decisive.requestBody).tags
    return { succeeded, decisive, evidence: `A tag of ${tag.length} letters takes ${Math.round(decisive.ms)} ms${succeeded ? ', each time' : ''}` }
  },
} satisfies Attack
