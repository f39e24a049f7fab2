/** Routes of this scope take forms. */
import type { FastifyInstance } from 'fastify'

const FORM = 'application/x-www-form-urlencoded'

export function takeForms (scope: FastifyInstance): void {
  if (scope.hasContentTypeParser(FORM)) return
  scope.addContentTypeParser(FORM, { parseAs: 'string' }, (_request, text, done) => done(null, Object.fromEntries(new URLSearchParams(text as string))))
}
