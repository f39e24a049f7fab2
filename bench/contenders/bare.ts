/** Fastify with the same routes, handlers and schemas, and no protection: the measure of the others. */
import Fastify from 'fastify'
import { draft, hours, HOURS_PATH, listening, note, NOTES_PATH, order, ORDER_PATH, params, readHours, readOrder, writeNote, type Build } from '../question.js'

/** About that of a signed token: to read the request is a part of what is measured. */
const TOKEN_LENGTH = 430

export const build: Build = async ({ people }) => {
  const app = Fastify()
  app.get(ORDER_PATH, { schema: { params, response: { 200: order } } }, readOrder)
  app.post(NOTES_PATH, { schema: { body: draft, response: { 200: note } } }, writeNote)
  app.get(HOURS_PATH, { schema: { response: { 200: hours } } }, readHours)
  return { port: await listening(app), tokens: Array.from({ length: people }, (_none, i) => `unread-${i}`.padEnd(TOKEN_LENGTH, 'x')), powerless: 'unread' }
}
