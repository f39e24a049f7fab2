/**
 * The same with its secret as a `KeyObject`, which jsonwebtoken takes too: from a text it tries to make a public key for each token, and
 * fails, at three quarters of the price of a request.
 */
import { createSecretKey } from 'node:crypto'
import { buildWith } from './express.js'
import { SECRET } from './shapes.js'

export const build = buildWith(createSecretKey(Buffer.from(SECRET)))
