/** Orders. */
import { resourceOf } from '../../plugins/access/index.js'
import { closed, Id } from '../../schemas/index.js'
import type { Portal } from '../app.js'
import { Order, orderShape } from './shapes.js'

export function orderRoutes ({ app }: Portal): void {
  app.get('/orders/:orderId', {
    schema: { params: closed({ orderId: Id }), response: { 200: Order } },
    config: { access: { resource: 'order', action: 'read' }, audit: 'data_access' },
  }, async request => orderShape(resourceOf(request, 'order')))
}
