/** Posts and comments. What people write as HTML is cut down to a few harmless elements while it is validated, and so before it is stored. */
import { Type, type Static } from '@sinclair/typebox'
import { createError } from '@fastify/error'
import { resourceOf } from '../../plugins/access/index.js'
import { NotFound } from '../../plugins/errors.js'
import { showHtml } from '../../plugins/html.js'
import { principalOf } from '../../plugins/identity.js'
import type { Sql } from '../../plugins/sql.js'
import { closed, Comment as CommentText, Content, Id, page, PageQuery, TagList, Title } from '../../schemas/index.js'
import { newId } from '../accounts.js'
import type { Portal } from '../app.js'
import { build, first, rows, type PostRow } from '../data/tables.js'
import { Comment, Post, commentShape, notFoundWhereGone, paged, postShape } from './shapes.js'

const UnknownCursor = createError('FST_PORTAL_UNKNOWN_CURSOR', 'This page is gone: begin again without a cursor', 400)

const PostParams = closed({ postId: Id })
/** Kept as its schemas leave it: trimmed, cleaned, each tag once. */
const PostBody = closed({ title: Title, content: Content, tags: Type.Optional(TagList) })

/** A page of posts, the newest first; of those alone whose title holds this text, in any case, where one is given. */
export async function recentPosts (sql: Sql, { cursor, limit }: Static<typeof PageQuery>, text?: string) {
  if (cursor !== undefined && await first(sql, build.selectFrom('posts').select('id').where('id', '=', cursor)) === null) throw new UnknownCursor()
  // Compared inside the database: its clock is finer than a Date.
  const found = await rows(sql, build.selectFrom('posts').selectAll()
    .$if(cursor !== undefined, query => query.where(eb => eb(eb.refTuple('created_at', 'id'), '<',
      eb.selectFrom('posts').select(['created_at', 'id']).where('id', '=', cursor!).$asTuple('created_at', 'id'))))
    // No pattern: what stands in it stands for itself.
    .$if(text !== undefined, query => query.where(({ fn, ref, val, eb }) => eb(fn<number>('strpos', [ref('title_upper'), eb.cast<string>(val(text!.toUpperCase()), 'text')]), '>', 0)))
    .orderBy('created_at', 'desc').orderBy('id', 'desc').limit(limit + 1))
  return paged(found, limit, shown)
}

export function postRoutes ({ app, sql, webhooks }: Portal): void {
  app.get('/posts', {
    schema: { querystring: PageQuery, response: { 200: page(Post) } },
    config: { access: 'public' },
  }, async request => recentPosts(sql, request.query))

  app.get('/posts/:postId', {
    schema: { params: PostParams, response: { 200: Post } },
    config: { access: 'public' },
  }, async request => {
    const post = await first(sql, build.selectFrom('posts').selectAll().where('id', '=', request.params.postId))
    if (post === null) throw new NotFound()
    return shown(post)
  })

  app.post('/posts', {
    schema: { body: PostBody, response: { 201: Post } },
    config: { access: { permissions: 'posts:write' }, audit: 'data_modification' },
  }, async (request, reply) => {
    const post = await first(sql, build.insertInto('posts')
      .values({ id: newId(), author_id: principalOf(request).userId, tags: [], ...request.body, title_upper: request.body.title.toUpperCase() }).returningAll()).catch(notFoundWhereGone)
    reply.code(201)
    return shown(post!)
  })

  app.put('/posts/:postId', {
    schema: { params: PostParams, body: PostBody, response: { 200: Post } },
    config: { access: { resource: 'post', action: 'write' }, audit: 'data_modification' },
  }, async request => {
    const { id } = resourceOf(request, 'post')
    const post = await first(sql, build.updateTable('posts').set({ tags: [], ...request.body, title_upper: request.body.title.toUpperCase(), updated_at: new Date() }).where('id', '=', id).returningAll())
    if (post === null) throw new NotFound()
    return shown(post)
  })

  app.delete('/posts/:postId', {
    schema: { params: PostParams, response: { 204: Type.Null() } },
    config: { access: { permissions: 'posts:delete' }, audit: 'data_modification' },
  }, async (request, reply) => {
    const post = await first(sql, build.deleteFrom('posts').where('id', '=', request.params.postId).returning('id'))
    if (post === null) throw new NotFound()
    reply.code(204)
  })

  app.get('/posts/:postId/comments', {
    schema: { params: PostParams, querystring: PageQuery, response: { 200: page(Comment) } },
    config: { access: 'public' },
  }, async request => {
    const { cursor, limit } = request.query
    const found = await rows(sql, build.selectFrom('comments').selectAll().where('post_id', '=', request.params.postId)
      .$if(cursor !== undefined, query => query.where(eb => eb(eb.refTuple('created_at', 'id'), '>',
        eb.selectFrom('comments').select(['created_at', 'id']).where('id', '=', cursor!).$asTuple('created_at', 'id'))))
      .orderBy('created_at').orderBy('id').limit(limit + 1))
    return paged(found, limit, commentShape)
  })

  app.post('/posts/:postId/comments', {
    schema: { params: PostParams, body: closed({ content: CommentText }), response: { 201: Comment } },
    config: { access: { permissions: 'posts:write' }, audit: 'data_modification' },
  }, async (request, reply) => {
    const { postId } = request.params
    const comment = await first(sql, build.insertInto('comments')
      .values({ id: newId(), post_id: postId, author_id: principalOf(request).userId, content: request.body.content }).returningAll()).catch(notFoundWhereGone)
    await webhooks.commented(comment!)
    reply.code(201)
    return commentShape(comment!)
  })
}

/** A post as it is read: its links are told apart from the portal's own. */
function shown (row: PostRow) {
  return postShape({ ...row, content: showHtml(row.content) })
}
