// Recent events, and the whole way of one.

import { get, query } from './api.js'
import { attempt, fill } from './attempt.js'
import { el, refresh, show, table, unreachable } from './dom.js'
import { Pages } from './pages.js'
import { moment, since } from './words.js'

const recent = document.getElementById('recent')
const pages = new Pages(live)
let chosen

document.getElementById('trace-form').addEventListener('submit', (event) => {
  event.preventDefault()
  trace(document.getElementById('trace-id').value.trim())
})

export function open() {
  pages.reset()
  live()
}

export function live() {
  return fill(recent, async () => list(await get(query('/api/events', { most: 50, after: pages.after() }))))
}

function list({ items, next, unreachable: down }) {
  const missing = unreachable(down, 'and its events are not shown')
  if (!items.length) return show(recent, missing, el('p', { class: 'empty' }, pages.after() ? 'No more events.' : 'No events yet.'), pages.controls(next))
  refresh(recent, missing, table('The newest events', [
    ['committed', (e) => moment(e.committedAt)],
    ['type', (e) => el('button', { class: 'link', type: 'button', 'data-key': e.eventId, title: `Trace ${e.eventId}`, onclick: () => trace(e.eventId) }, e.type)],
    ['group', (e) => e.group],
    ['database', (e) => e.database],
    ['sequence', (e) => e.sequence, 'number'],
    ['state', (e) => el('span', { class: `state state-${e.state}` }, e.state)],
    ['event', (e) => el('span', { class: 'mono' }, e.eventId)],
  ], items, (e) => (e.eventId === chosen ? 'chosen' : '')), pages.controls(next))
}

/** Shows the way of an event, an order or a replenishment. */
export async function trace(id) {
  const found = await attempt(() => get(`/api/trace/${encodeURIComponent(id)}`))
  if (!found) return
  chosen = id
  document.getElementById('trace-id').value = id
  show(document.getElementById('trace'), el('div', { class: 'box' },
    el('button', { type: 'button', onclick: close }, 'Close the trace'),
    unreachable(found.unreachable, 'and what happened there is not shown'),
    found.order && el('p', {}, `Order: ${found.order.quantity} of ${found.order.sku}${found.order.customerId ? ` by ${found.order.customerId}` : ''}, ${moment(found.order.placedAt)}`),
    found.replenishment && replenishment(found.replenishment),
    found.events.map(way),
    !found.events.length && el('p', {}, 'Its event is past retention.')))
  document.getElementById('trace').scrollIntoView({ block: 'nearest' })
  live()
}

function close() {
  const back = document.querySelector(`#recent [data-key="${CSS.escape(chosen)}"]`)
  chosen = undefined
  show(document.getElementById('trace'))
  ;(back ?? document.getElementById('trace-id')).focus()
  live()
}

function replenishment(r) {
  return el('div', {},
    el('p', {}, `Replenishment: ${r.quantity} of ${r.sku}, ${r.state}${r.productionId ? `, production ${r.productionId}` : ''}${r.refusal ? `, refused: ${r.refusal}` : ''}${r.deliveredAt ? `, ${r.delivered} delivered ${moment(r.deliveredAt)}` : ''}`),
    (r.acts ?? []).map((a) => el('p', { class: 'hint' }, `${a.act} ${moment(a.at)} by ${a.by}: ${a.reason}`)))
}

function way(event) {
  let before = event.committedAt
  return el('div', {},
    el('p', { class: 'hint mono' }, `event ${event.eventId} · ${event.database} · group ${event.group} · sequence ${event.sequence}${event.causedBy ? ` · caused by ${event.causedBy}` : ''}${event.traceId ? ` · trace ${event.traceId}` : ''}`),
    table(event.type || '(not an event)', [
      ['at', (s) => (s.at ? moment(s.at) : '-')],
      ['after', (s) => { const after = s.at ? since(before, s.at) : ''; before = s.at ?? before; return after }, 'number'],
      ['who', (s) => s.who],
      ['what', (s) => s.what, 'reason'],
    ], steps(event)))
}

// steps are what happened in the order of its time, then what has not happened yet.
function steps(event) {
  const done = [{ at: event.committedAt, who: event.database, what: 'committed' }]
  const without = []
  if (event.parked) {
    done.push({ at: event.parked.since, who: 'relay', what: `parked (${event.parked.reason}): ${event.parked.detail}` })
    if (event.parked.resolvedAt) done.push({ at: event.parked.resolvedAt, who: 'relay', what: [event.parked.state, event.parked.askedBy && `for ${event.parked.askedBy}`, event.parked.note].filter(Boolean).join(' ') })
  }
  if (event.published) done.push({ at: event.published.at, who: 'relay', what: `published: message ${event.published.messageId}` })
  else if (!event.parked) without.push({ who: 'relay', what: 'not published yet' })
  for (const c of event.consumers) {
    const who = c.replayId ? `${c.consumer} (replay ${c.replayId})` : c.consumer
    if (!c.state) {
      without.push({ who, what: 'not received yet' })
      continue
    }
    if (c.state === 'unknown') {
      without.push({ who, what: 'cannot be told: its inbox cannot be reached' })
      continue
    }
    done.push({ at: c.firstAt, who, what: 'attempts begin' })
    for (const call of c.calls ?? []) {
      done.push({ at: call.endedAt, who, what: [`attempt ${call.attempt}: ${call.kind} ${call.outcome}`, call.reference, call.detail].filter(Boolean).join(': ') })
    }
    done.push({ at: c.lastAt, who, what: [`${c.state} after ${c.attempts} attempts`, c.effect, c.state === 'done' ? '' : c.lastError].filter(Boolean).join(': ') })
  }
  done.sort((a, b) => Date.parse(a.at) - Date.parse(b.at))
  return [...done, ...without]
}
