/** The schemas of the service for peers that validate with zod, and what peers sign tokens with. */
import { z } from 'zod'

export const SECRET = 'a secret of more than thirty-two bytes, for this benchmark'

export interface Claims { sub: string, permissions: string[] }

export const Params = z.object({ orderId: z.string().max(32) })
export const Order = z.object({ id: z.string(), status: z.string(), total: z.int(), currency: z.string(), createdAt: z.string(), items: z.int() })
export const Draft = z.strictObject({
  title: z.string().min(1).max(200),
  content: z.string().min(10).max(10_000),
  tags: z.array(z.string().max(50)).max(10),
  priority: z.int().min(0).max(9),
})
export const Note = z.object({ id: z.string(), ...Draft.shape, createdAt: z.string() })
export const Hours = z.object({ days: z.string(), opens: z.string(), closes: z.string() })
