// The last comparison of what was committed, published and handled.

import { get, SignInError } from './api.js'
import { attempt } from './attempt.js'
import { el, show, table, unreachable } from './dom.js'
import { prepare } from './replay.js'
import { age, count, moment } from './words.js'

const container = document.getElementById('books')
let shown = ''

export function open() {
  shown = ''
  live()
}

export async function live() {
  try {
    const found = await get('/api/reconcile')
    const text = JSON.stringify(found)
    if (text !== shown) tell(found)
    shown = text
  } catch (problem) {
    if (problem instanceof SignInError) attempt(() => { throw problem })
    shown = ''
    show(container, el('p', { class: 'empty' }, problem.message))
  }
}

function tell({ result, error }) {
  show(container,
    error && el('p', { class: 'error', role: 'alert' }, `It cannot be told: ${error}`),
    result && unreachable(result.unreachable, 'and what needs it was not compared'),
    result && [
      el('p', { role: 'status' }, el('strong', {}, verdict(result)), `, as of ${moment(result.at)}.`),
      result.findings.map(finding),
      table('Outboxes', [['database', (o) => o.database], ['events', (o) => o.events, 'number'], ['unpublished', (o) => o.unpublished, 'number'], ['parked', (o) => o.parked, 'number'], ['days', (o) => o.days, 'number']], result.outboxes),
      table('Consumers', [['consumer', (c) => c.consumer], ['wanted', (c) => c.wanted, 'number'], ['done', (c) => c.done, 'number'], ['waiting', (c) => c.waiting, 'number'],
        ['unhandled', (c) => c.unhandled, 'number'], ['dead', (c) => c.dead, 'number'], ['repeated', (c) => c.repeated, 'number'], ['uncertain', (c) => c.uncertain, 'number']], result.consumers),
    ])
}

function verdict({ missing, unreachable: down }) {
  if (missing) return `${count(missing, 'event')}${down ? ' or more' : ''} missing`
  return down ? 'Of what was compared nothing is missing' : 'Nothing is missing'
}

function finding(f) {
  const unhandled = f.kind === 'unhandled'
  const what = unhandled ? `published and not handled by ${f.consumer}` : `of ${f.database} neither published nor parked`
  return el('div', { class: 'box concern' },
    el('p', {}, el('strong', {}, `${count(f.count, 'event')} ${what}`), `, committed ${moment(f.first)} to ${moment(f.last)}, ${age(f.last)} ago.`),
    f.note && el('p', {}, f.note),
    el('p', {}, el('code', {}, f.heal)),
    el('button', { type: 'button', 'data-key': `heal ${f.kind} ${f.database} ${f.consumer}`,
      onclick: () => prepare({ database: f.database, which: unhandled ? f.consumer : 'unpublished', since: f.first, until: f.last }) }, 'Prepare this replay'))
}
