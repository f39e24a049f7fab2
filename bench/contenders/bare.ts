/** Fastify with the same route, handler and schemas, and no protection: the measure of the others. */
import Fastify from 'fastify'
import { answer, params, readOrder, URL_PATH, type Build } from '../question.js'

export const build: Build = async () => {
  const app = Fastify()
  app.get(URL_PATH, { schema: { params, response: { 200: answer } } }, readOrder)
  return { app, tokens: async people => Array.from({ length: people }, (_none, i) => `unread-${i}`) }
}
