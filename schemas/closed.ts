import { Type, type ObjectOptions, type Static, type TObject, type TProperties } from '@sinclair/typebox'

export interface ClosedOptions<Properties extends TProperties> extends ObjectOptions {
  /** Rules between fields, asked once each field has its declared form; one that is not kept is a 400. */
  rules?: readonly {
    /** Where the fault is, as a JSON pointer inside the object: `/endsAt`. */
    path: string
    /** What is wrong, never with a value in it. */
    message: string
    /** True where it is kept. Fields that are optional may be absent. */
    holds: (fields: Static<TObject<Properties>>) => boolean
  }[]
}

/** An object that takes no other fields than these (OWASP API3:2023): what every body is made of. */
export function closed<Properties extends TProperties> (properties: Properties, options: ClosedOptions<Properties> = {}): TObject<Properties> {
  return Type.Object(properties, { ...options, additionalProperties: false })
}

/** The body of a route that takes none: nothing, `null`, or the empty object that some clients always send. */
export const noBody = Type.Union([Type.Null(), closed({})], { description: 'no body' })
