/** The proof that a request shows: read once, and spent once in all processes that share state. */
import { createHash } from 'node:crypto'
import type { FastifyRequest } from 'fastify'
import { Remembered } from '../../remembered.js'
import type { MaybePromise, State } from '../../state/index.js'
import type { Nonces } from './nonces.js'
import type { Proof, ProofFault, ProofReader } from './proof.js'
import { originOf } from './target.js'

interface ShownParts {
  read: ProofReader
  state: State
  nonces: Nonces | null
  /** That proofs must name; null: that of the request. */
  origin: string | null
  /** Milliseconds for which a spent proof is remembered. */
  spentMs: number
}

export interface Shown {
  /**
   * What a request shows; the same again for whoever asks later.
   * @param accessToken that comes with it, and `jkt` what that one is bound to
   */
  of: (request: FastifyRequest, accessToken?: string, jkt?: string) => ShownProof | ProofFault
  /** What was read of a request before; undefined where nobody asked, or it was no good. */
  known: (request: FastifyRequest) => ShownProof | undefined
  /** Whether this process knows that another request has spent it. */
  isSpent: (shown: ShownProof) => boolean
  /** True for the one request of all that show it, as often as that one asks. */
  spend: (shown: ShownProof) => MaybePromise<boolean>
}

/** `id`: of the proof, among those of all keys. `isFirst`: null until it is spent. */
export interface ShownProof { proof: Proof, id: string, isFirst: MaybePromise<boolean> | null }

/** Proofs that this process has seen spent: where they come again, nobody is asked. */
const SPENT = 10_000

export function shownProofs ({ read, state, nonces, origin, spentMs }: ShownParts): Shown {
  const shown = new WeakMap<FastifyRequest, ShownProof>()
  const spent = new Remembered<true>(SPENT)
  let last = { authority: '', origin: null as string | null }

  return {
    of (request, accessToken, jkt) {
      const known = shown.get(request)
      if (known !== undefined) return known
      const { dpop } = request.headers
      const expected = origin ?? originOfRequest(request)
      if (typeof dpop !== 'string' || expected === null) return { fault: 'is missing' }
      const proof = read(dpop, { method: request.method, origin: expected, target: request.originalUrl, accessToken, jkt, nonces: nonces?.accepted() })
      if ('fault' in proof) return proof
      const found = { proof, id: idOf(proof), isFirst: null }
      shown.set(request, found)
      return found
    },
    known: request => shown.get(request),
    isSpent: ({ id, isFirst }) => isFirst === null && spent.get(id) !== undefined,
    spend (found) {
      found.isFirst ??= spent.get(found.id) === undefined && state.claim(`dpop:${found.id}`, '1', spentMs)
      spent.set(found.id, true)
      return found.isFirst
    },
  }

  function originOfRequest ({ protocol, host }: FastifyRequest): string | null {
    const authority = `${protocol}://${host}`
    if (authority !== last.authority) last = { authority, origin: originOf(authority) }
    return last.origin
  }
}

/** What a client chose has a length and characters of its own choice. */
function idOf ({ jkt, jti }: Proof): string {
  return createHash('sha256').update(`${jkt} ${jti}`).digest('base64url')
}
