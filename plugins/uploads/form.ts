/** The form of an upload, as documentation shows it. */
import type { PlannedRoute } from '../plan/index.js'

const FOR_CONTENT: ReadonlySet<string> = new Set(['POST', 'PUT', 'PATCH'])

export function isForContent ({ kind, options }: PlannedRoute): boolean {
  return kind === 'route' && [options.method].flat().every(method => FOR_CONTENT.has(method))
}

/** The form, for documentation: the parser hands on nothing of it, and `null` is what is validated. */
export function formOf (field: string): object {
  return {
    content: {
      'multipart/form-data': {
        schema: {
          type: ['object', 'null'],
          properties: { [field]: { type: 'string', contentMediaType: 'application/octet-stream' } },
          additionalProperties: false,
        },
      },
    },
  }
}
