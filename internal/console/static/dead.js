// What consumers gave up. Looking takes messages into hand for a moment, so it is done
// when asked for, not again and again.

import { get, post, query } from './api.js'
import { attempt } from './attempt.js'
import { ask } from './dialog.js'
import { el, say, show, table, unreachable } from './dom.js'
import { Pages } from './pages.js'
import { age, count } from './words.js'

const container = document.getElementById('dead')
const pages = new Pages(() => attempt(look))

export function open() {
  pages.reset()
  attempt(look)
}

async function look() {
  show(container, el('p', { class: 'empty', role: 'status' }, 'Looking through the queues…'))
  let listing
  try {
    listing = await get(query('/api/dlq', { after: pages.after() }))
  } catch (problem) {
    show(container, again(), el('p', { class: 'error', role: 'alert' }, problem.message))
    throw problem
  }
  const held = listing.queues.reduce((n, q) => n + q.held, 0)
  const consumers = [...new Set(listing.events.map((e) => e.consumer))]
  show(container,
    el('div', { class: 'row' }, again(), consumers.map((name) => el('button', { type: 'button', 'data-key': `all ${name}`, onclick: () => attempt(() => redrive(`all of ${name}`, { consumers: [name] })) }, `Redrive all of ${name}`))),
    unreachable(listing.unreachable, 'and what is dead of the consumers that need it is not shown'),
    held > 0 && el('p', { class: 'warning' }, `${count(held, 'message')} are held by somebody else at this moment and not shown: look again.`),
    !listing.events.length && el('p', { class: 'empty' }, listing.unreachable ? 'Nothing of what can be looked at is dead.' : 'Nothing is dead.'),
    listing.events.length > 0 && table('Dead events', [
      ['consumer', (e) => e.consumer],
      ['type', (e) => el('button', { class: 'link', type: 'button', 'data-key': `show ${e.consumer} ${e.eventId}`, title: `Show ${e.eventId}`, onclick: () => attempt(() => dossier(e.eventId)) }, e.type || '(not an event)')],
      ['group', (e) => e.group],
      ['sequence', (e) => e.sequence ?? '-', 'number'],
      ['dead for', (e) => age(e.since), 'number'],
      ['attempts', (e) => e.attempts, 'number'],
      ['reason', (e) => e.reason ?? '', 'reason'],
      ['', (e) => remark(e)],
      ['', (e) => el('button', { type: 'button', 'data-key': `redrive ${e.consumer} ${e.eventId}`, 'aria-label': `Redrive ${e.eventId} to ${e.consumer}`, onclick: () => attempt(() => redrive(e.eventId, { events: [e.eventId], consumers: [e.consumer] })) }, 'Redrive'), 'actions'],
    ], listing.events),
    pages.controls(listing.next),
    el('div', { id: 'dossier', 'aria-live': 'polite' }))
}

const again = () => el('button', { type: 'button', 'data-key': 'look', onclick: () => attempt(look) }, 'Look again')

const remark = (e) => [
  e.messages === 0 && 'behind others of its group',
  e.messages > 1 && `${e.messages} copies`,
  e.newerDone > 0 && `sequence ${e.newerDone} of its group is handled`,
].filter(Boolean).join(', ')

async function redrive(what, selection) {
  const plan = await post('/api/dlq/redrive', { ...selection, dryRun: true })
  if (!plan.events.length) {
    say('nothing of that is dead any more')
    return look()
  }
  const newer = plan.events.filter((e) => e.newerDone > 0 && e.outcome === 'planned').length
  const handled = plan.events.filter((e) => e.outcome === 'handled').length
  const reason = await ask({ title: `Redrive ${what}`, confirm: 'Redrive', body: [
    el('p', {}, `${count(plan.events.length - handled, 'event')} of ${count(new Set(plan.events.map((e) => e.group)).size, 'group')} will return to the consumer’s queue, each group in its order, with all attempts anew.`),
    handled > 0 && el('p', {}, `${count(handled, 'event')} are handled already: only their messages are deleted.`),
    newer > 0 && el('p', { class: 'warning' }, `Of ${count(newer, 'event')} a later one of the group is handled already: the consumer sees them late.`),
    unreachable(plan.unreachable, 'and its consumers are left out'),
    plan.held > 0 && el('p', { class: 'warning' }, `${count(plan.held, 'message')} are held by somebody else and left alone.`),
    table('In this order', [['consumer', (e) => e.consumer], ['group', (e) => e.group], ['event', (e) => el('span', { class: 'mono' }, e.eventId)]], plan.events.slice(0, 10)),
    plan.events.length > 10 && el('p', { class: 'hint' }, `and ${plan.events.length - 10} more`),
  ] })
  if (reason === undefined) return
  say('redriving…')
  const report = await post('/api/dlq/redrive', { ...selection, reason })
  const of = (outcome) => report.events.filter((e) => e.outcome === outcome).length
  say(`${of('sent')} sent, ${of('handled')} handled already, ${of('failed')} failed`)
  await look()
  container.querySelector('[data-key=look]')?.focus()
}

async function dossier(id) {
  const all = await get(`/api/dlq/${id}`)
  show(document.getElementById('dossier'), all.map((d) => el('div', { class: 'box' },
    el('h3', {}, `${d.consumer}: ${d.eventId}`),
    el('p', {}, d.reason ?? ''),
    (d.effects ?? []).map((f) => el('p', { class: 'hint' }, [`attempt ${f.attempt}`, f.kind, f.outcome, f.reference, f.detail].filter(Boolean).join(' '))),
    el('pre', {}, pretty(d.message)))))
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2)
  } catch {
    return text
  }
}
