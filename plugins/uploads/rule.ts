/** What a route says of its upload: `config.upload`. */
import { Type, type Static } from '@sinclair/typebox'
import { checkOptions } from '../options.js'
import { UploadsMisconfigured } from './errors.js'
import { KINDS, type KindName } from './kinds.js'

const MIB = 1_048_576

export const UploadRule = Type.Object({
  field: Type.Optional(Type.String({ pattern: '^[A-Za-z][A-Za-z0-9_-]{0,63}$', default: 'file', description: 'Name of the one part that is taken' })),
  kinds: Type.Array(Type.Union((Object.keys(KINDS) as KindName[]).map(name => Type.Literal(name))), { minItems: 1, uniqueItems: true, description: 'What is taken' }),
  maxBytes: Type.Integer({ minimum: 1, maximum: 1024 * MIB, description: 'Bytes of the file at most' }),
  maxWidth: Type.Optional(Type.Integer({ minimum: 1, maximum: 16_383, default: 4000, description: 'Pixels of an image' })),
  maxHeight: Type.Optional(Type.Integer({ minimum: 1, maximum: 16_383, default: 4000, description: 'Pixels of an image' })),
  maxPixels: Type.Optional(Type.Integer({ minimum: 1, maximum: 268_402_689, description: 'Pixels of an image, those of all its frames together; default: `maxWidth` × `maxHeight`' })),
  maxFrames: Type.Optional(Type.Integer({ minimum: 1, maximum: 10_000, default: 100, description: 'Frames of an animation; 1: none moves' })),
  maxInflated: Type.Optional(Type.Integer({ minimum: 1, maximum: 4096 * MIB, default: 100 * MIB, description: 'Bytes of what is compressed in a document, inflated' })),
  maxEntries: Type.Optional(Type.Integer({ minimum: 1, maximum: 65_535, default: 1000, description: 'Entries of a document that is an archive' })),
  active: Type.Optional(Type.Union([Type.Literal('refuse'), Type.Literal('keep')], {
    default: 'refuse', description: 'Documents with scripts, macros, actions, embedded or foreign objects, and those that cannot be looked into',
  })),
}, { additionalProperties: false })
export type UploadRule = Static<typeof UploadRule>
export type SettledRule = Required<UploadRule>

/** @throws UploadsMisconfigured */
export function settleRule (rule: unknown): SettledRule {
  checkOptions(UploadRule, rule, 'upload', UploadsMisconfigured)
  const { maxWidth = 4000, maxHeight = 4000 } = rule
  return { field: 'file', maxFrames: 100, maxInflated: 100 * MIB, maxEntries: 1000, active: 'refuse', ...rule, maxWidth, maxHeight, maxPixels: rule.maxPixels ?? maxWidth * maxHeight }
}

export function takesImages ({ kinds }: SettledRule): boolean {
  return kinds.some(kind => KINDS[kind].content === 'image')
}

/** What the route promises, for reports: of what it takes, and nothing else. */
export function promiseOf (rule: SettledRule): Record<string, unknown> {
  const { field, kinds, maxBytes, maxWidth, maxHeight, maxPixels, maxFrames, maxInflated, maxEntries, active } = rule
  return {
    field,
    kinds,
    maxBytes,
    ...takesImages(rule) && { maxWidth, maxHeight, maxPixels, maxFrames },
    ...kinds.some(kind => KINDS[kind].content !== 'image') && { maxInflated, maxEntries, active },
  }
}
