import { Type, type ObjectOptions, type TObject, type TProperties } from '@sinclair/typebox'

/** An object that takes no other fields than these (OWASP API3:2023): what every body is made of. */
export function closed<Properties extends TProperties> (properties: Properties, options: ObjectOptions = {}): TObject<Properties> {
  return Type.Object(properties, { ...options, additionalProperties: false })
}

/** The body of a route that takes none: nothing, `null`, or the empty object that some clients always send. */
export const noBody = Type.Union([Type.Null(), closed({})], { description: 'no body' })
