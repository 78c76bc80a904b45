// What could not be published.

import { get, post, query } from './api.js'
import { attempt } from './attempt.js'
import { ask } from './dialog.js'
import { el, say, show, table } from './dom.js'
import { age, count } from './words.js'

let databases = ['store']
let shown = '' // what the list shows, as text: it is drawn anew when that is another

export function open() {
  shown = ''
}

export function live(report) {
  databases = report.relays.map((r) => r.database)
  return attempt(list)
}

async function list() {
  const all = []
  for (const database of databases) {
    for (const group of await get(query('/api/parked', { database }))) all.push({ ...group, database })
  }
  const text = JSON.stringify(all)
  if (text === shown) return
  shown = text
  const container = document.getElementById('parked')
  if (!all.length) return show(container, el('p', { class: 'empty' }, 'Nothing is parked.'))
  show(container, table('Groups of which something is parked', [
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
  ], all), el('div', { id: 'parked-events', 'aria-live': 'polite' }))
}

const button = (text, g, onclick) => el('button', { type: 'button', 'data-key': `${text} ${g.database} ${g.group}`, 'aria-label': `${text} ${g.group}`, onclick: () => attempt(onclick) }, text)

const remark = (g) => [g.database !== 'store' && g.database, g.held && 'the group is parked', g.sending && `being sent for ${g.askedBy ?? '?'}`].filter(Boolean).join(', ')

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
  const all = await get(query('/api/parked', { database: g.database, group: g.group }))
  show(document.getElementById('parked-events'), table(`Parked of ${g.group}`, [
    ['event', (e) => el('button', { class: 'link mono', type: 'button', 'data-key': e.eventId, onclick: () => attempt(() => dossier(g.database, e.eventId)) }, e.eventId)],
    ['sequence', (e) => e.sequence, 'number'],
    ['type', (e) => e.type ?? '(not an event)'],
    ['state', (e) => e.state],
    ['reason', (e) => e.reason],
    ['detail', (e) => e.detail, 'reason'],
  ], all), el('div', { id: 'parked-dossier' }))
}

async function dossier(database, id) {
  const d = await get(query(`/api/parked/${id}`, { database }))
  show(document.getElementById('parked-dossier'), el('pre', {}, d.attributes), el('pre', {}, d.body))
}
