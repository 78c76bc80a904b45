// What could not be published.

import { get, post, query } from './api.js'
import { attempt, part } from './attempt.js'
import { ask } from './dialog.js'
import { el, say, show, table } from './dom.js'
import { Pages } from './pages.js'
import { age, count } from './words.js'

let databases = ['store']
let shown = '' // what the list shows, as text: it is drawn anew when that is another
const pages = new Pages(() => attempt(list))

export function open() {
  shown = ''
  pages.reset()
}

export function live(report) {
  databases = report.relays.map((r) => r.database)
  return attempt(list)
}

async function list() {
  const parts = await Promise.all(databases.map(async (database) => ({ database, ...await part(() => get(query('/api/parked', { database, after: pages.after(database) }))) })))
  const text = JSON.stringify(parts)
  if (text === shown) return
  shown = text
  const container = document.getElementById('parked')
  if (parts.every((p) => !p.items.length && !p.error && !pages.after(p.database))) return show(container, el('p', { class: 'empty' }, 'Nothing is parked.'))
  show(container, parts.map(groups), el('div', { id: 'parked-events', 'aria-live': 'polite' }))
}

function groups({ database, items, next, error }) {
  if (error) return el('p', { class: 'error', role: 'alert' }, `What is parked of ${database} cannot be shown: ${error}`)
  if (!items.length) return pages.controls(next, database)
  return [table(`Groups of ${database} of which something is parked`, [
    ['group', (g) => g.group],
    ['events', (g) => g.events, 'number'],
    ['oldest', (g) => age(g.since), 'number'],
    ['reason', (g) => g.reason ?? ''],
    ['detail', (g) => g.detail ?? '', 'reason'],
    ['', (g) => remark(g)],
    ['', (g) => [
      button('Send', g, () => send(g)),
      button('Skip', g, () => skip(g)),
      button('Events', g, () => events(g)),
    ], 'actions'],
  ], items.map((g) => ({ ...g, database }))), pages.controls(next, database)]
}

const button = (text, g, onclick) => el('button', { type: 'button', 'data-key': `${text} ${g.database} ${g.group}`, 'aria-label': `${text} ${g.group}`, onclick: () => attempt(onclick) }, text)

const remark = (g) => [g.held && 'the group is parked', g.sending && `being sent for ${g.askedBy ?? '?'}`].filter(Boolean).join(', ')

async function send(g) {
  const plan = await post('/api/parked/send', { database: g.database, groups: [g.group], dryRun: true })
  const reason = await ask({ title: `Send what is parked of ${g.group}`, confirm: 'Send', body: plan.groups.map((one) => [
    el('p', {}, `${count(one.events.length, 'event')} will be sent in order${one.whole ? ', and the group goes on' : ''}.`),
    one.overtaken.length > 0 && el('p', { class: 'warning' }, `Later events of the group are published already: consumers will see ${count(one.overtaken.length, 'event')} in the wrong order.`),
  ]) })
  if (reason === undefined) return
  const sent = await post('/api/parked/send', { database: g.database, groups: [g.group], reason })
  say(`${count(sent.groups.reduce((n, one) => n + one.events.length, 0), 'event')} to be sent by the relay`)
  await list()
}

async function skip(g) {
  const reason = await ask({ title: `Skip what is parked of ${g.group}`, confirm: 'Skip for good', danger: true,
    body: el('p', { class: 'warning' }, `${count(g.events, 'event')} will never be published. This cannot be undone.`) })
  if (reason === undefined) return
  const done = await post('/api/parked/skip', { database: g.database, groups: [g.group], seen: g.events, reason })
  say(`${count(done.skipped.length, 'event')} skipped`)
  await list()
}

async function events(g) {
  const { items, next } = await get(query('/api/parked', { database: g.database, group: g.group }))
  show(document.getElementById('parked-events'), table(`Parked of ${g.group}`, [
    ['event', (e) => el('button', { class: 'link mono', type: 'button', 'data-key': e.eventId, onclick: () => attempt(() => dossier(g.database, e.eventId)) }, e.eventId)],
    ['sequence', (e) => e.sequence, 'number'],
    ['type', (e) => e.type ?? '(not an event)'],
    ['state', (e) => e.state],
    ['reason', (e) => e.reason],
    ['detail', (e) => e.detail, 'reason'],
  ], items), next && el('p', { class: 'hint' }, `and more: restock parked list '${g.group}'`), el('div', { id: 'parked-dossier' }))
}

async function dossier(database, id) {
  const d = await get(query(`/api/parked/${id}`, { database }))
  show(document.getElementById('parked-dossier'), el('pre', {}, d.attributes), el('pre', {}, d.body))
}
