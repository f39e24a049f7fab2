/** The attack kit on the member portal. */
import t from 'tap'
import { asText, attack } from '../../plugins/testing/index.js'
import { attackedPortal } from './attacked.js'
import { build } from './portal.js'

t.setTimeout(240_000)
const portal = await build(t)
const options = await attackedPortal(portal)
const report = await attack(portal.app, { ...options, ...process.env.ONLY && { only: process.env.ONLY.split(",") }, ...process.env.FAM && { families: process.env.FAM.split(",") } })
console.log(asText(report))
t.pass('x')
