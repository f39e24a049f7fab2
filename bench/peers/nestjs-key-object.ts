/** The same with its secret as a `KeyObject`: see `express-key-object.ts`. */
import { createSecretKey } from 'node:crypto'
import { buildWith } from './nestjs.js'
import { SECRET } from './shapes.js'

export const build = buildWith(createSecretKey(Buffer.from(SECRET)))
