/** What is refused of proofs of possession. */
import { createRefusal } from '../../refusal.js'

/** The proof of possession is missing, malformed, foreign, for another request, or came before. The log knows which. At a resource: 401. */
export const ProofInvalid = createRefusal('FST_BASTION_TOKENS_PROOF_INVALID', 'The DPoP proof is missing, or not good for this request', 400)
/** The proof must hold the nonce that stands in the header `DPoP-Nonce` of this answer. At a resource: 401. */
export const NonceWanted = createRefusal('FST_BASTION_TOKENS_NONCE_WANTED', 'The DPoP proof must hold the nonce of this answer', 400)
/** The route takes none but access tokens that are bound to a key. */
export const TokenUnbound = createRefusal('FST_BASTION_TOKENS_UNBOUND', 'Use an access token that is bound to a key', 401)
