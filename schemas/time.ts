/** Days and moments. */
import { Type } from '@sinclair/typebox'

/** A day that was or will be (RFC 3339, `full-date`). */
export const IsoDate = Type.String({ format: 'date', minLength: 10, maxLength: 10, examples: ['2024-02-29', '1999-12-31'] })

/** A moment, with its offset from UTC (RFC 3339, `date-time`). */
export const IsoDateTime = Type.String({ format: 'date-time', minLength: 20, maxLength: 40, examples: ['2024-02-29T10:00:00Z', '2024-02-29T10:00:00.123+02:00'] })
