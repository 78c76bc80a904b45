// Publishing events once more: planned, then watched.

import { get, post, query } from './api.js'
import { attempt, part } from './attempt.js'
import { ask } from './dialog.js'
import { el, refresh, say, show, table } from './dom.js'
import { Pages } from './pages.js'
import { age, count, moment, span } from './words.js'

const field = (name) => document.getElementById(`r-${name}`)
let databases = ['store']
const pages = new Pages(() => attempt(list))

field('zone').textContent = 'Times are UTC. What is given must all be met.'

document.getElementById('replay-form').addEventListener('submit', async (event) => {
  event.preventDefault()
  const error = document.getElementById('replay-error')
  error.textContent = ''
  try {
    await plan()
  } catch (problem) {
    error.textContent = problem.message
    attempt(() => { throw problem })
  }
})

/** Fills the form, so that what is missing can be planned at once. */
export function prepare({ database, which, since, until }) {
  document.getElementById('replay-form').reset()
  field('database').value = database
  field('which').value = which
  const local = (at) => new Date(at).toISOString().slice(0, 19)
  field('since').value = local(since)
  field('until').value = local(Math.floor(Date.parse(until) / 1000) * 1000 + 1000) // the last second included
  location.hash = '#replay'
}

function selection() {
  const chosen = { database: field('database').value, rate: Number(field('rate').value) }
  for (const name of ['since', 'until']) if (field(name).value) chosen[name] = new Date(`${field(name).value}Z`).toISOString()
  for (const name of ['sku', 'customer', 'order', 'consumer']) if (field(name).value.trim()) chosen[name] = field(name).value.trim()
  if (field('type').value) chosen.types = [field('type').value]
  if (field('group').value.trim()) chosen.groups = [field('group').value.trim()]
  const ids = field('events').value.split(/\s+/).filter(Boolean)
  if (ids.length) chosen.events = ids
  const which = field('which').value
  if (which === 'parked' || which === 'unpublished') chosen[which] = true
  else if (which) chosen.unhandled = which
  if (field('force').checked) chosen.force = true
  return chosen
}

async function plan() {
  const chosen = selection()
  const planned = await post('/api/replays/plan', chosen)
  const answer = await ask({ title: 'What this replay would do', confirm: `Replay ${count(planned.events, 'event')}`, reason: false, body: inWords(planned, chosen.force) })
  if (answer === undefined) return
  const started = await post('/api/replays', chosen)
  say(`the replay of ${count(started.events, 'event')} is asked for`)
  await list()
}

function inWords(p, force) {
  return [
    el('p', {}, `${count(p.events, 'event')} of ${count(p.groups, 'group')}${p.seconds >= 1 ? `, ${span(p.seconds)} at the rate` : ''}.`),
    el('p', { class: 'hint' }, `From ${moment(p.first.at)} (sequence ${p.first.sequence}) to ${moment(p.last.at)} (sequence ${p.last.sequence}).`),
    Object.entries(p.leftOut).map(([state, n]) => el('p', {}, `Left out: ${n} that are ${state}.`)),
    p.effects.map((e) => el('p', {}, effect(e, force))),
    !p.effects.length && el('p', { class: 'warning' }, 'No consumer wants any of them.'),
    p.ahead > 0 && el('p', { class: 'warning' }, `${count(p.ahead, 'replay')} come before it: they run one after the other.`),
    table('The first of them', [
      ['sequence', (e) => e.sequence, 'number'], ['type', (e) => e.type],
      ['consumers', (e) => Object.entries(e.does).map(([who, what]) => `${who} ${what}`).join(', ') || 'nobody wants it'],
      ['group', (e) => e.group],
    ], p.sample),
    p.events > p.sample.length && el('p', { class: 'hint' }, `and ${p.events - p.sample.length} more`),
  ]
}

function effect(e, force) {
  const known = e.handled !== undefined && e.handled !== null
  const handled = known ? `${force ? 'repeats' : 'skips'} ${e.handled} that it has handled` : 'what it has handled is not known here'
  return `${e.consumer} wants ${e.wants} and ${handled}${e.repeats ? `: it ${e.repeats}` : ''}.`
}

export const open = () => pages.reset()

export function live(report) {
  databases = report.relays.map((r) => r.database)
  return attempt(list)
}

async function list() {
  const parts = await Promise.all(databases.map(async (database) => ({ database, ...await part(() => get(query('/api/replays', { database, most: 50, after: pages.after(database) }))) })))
  const container = document.getElementById('replays')
  if (parts.every((p) => !p.items.length && !p.error && !pages.after(p.database))) return show(container, el('p', { class: 'empty' }, 'Nothing was ever replayed.'))
  refresh(container, parts.map(replays))
}

function replays({ database, items, next, error }) {
  if (error) return el('p', { class: 'error', role: 'alert' }, `The replays of ${database} cannot be shown: ${error}`)
  if (!items.length) return pages.controls(next, database)
  return [table(`Replays of ${database}`, [
    ['asked', (r) => `${age(r.askedAt)} ago by ${r.askedBy}`],
    ['state', (r) => el('span', { class: `state state-${r.state}` }, r.state + (r.ahead ? ` behind ${r.ahead}` : ''))],
    ['progress', (r) => [el('progress', { max: Math.max(1, r.events), value: r.done, 'aria-label': `Progress of replay ${r.id}` }), ` ${r.done} of ${r.events}${r.failed ? `, ${r.failed} failed` : ''}`]],
    ['for', (r) => `${r.consumer || 'all'}${r.force ? ', forced' : ''}`],
    ['selection', (r) => JSON.stringify(r.selection), 'reason'],
    ['', (r) => act(r), 'actions'],
  ], items.map((r) => ({ ...r, database }))), pages.controls(next, database)]
}

function act(r) {
  const button = (text, path) => el('button', { type: 'button', 'data-key': `${text} ${r.id}`, 'aria-label': `${text} replay ${r.id}`, onclick: () => attempt(async () => {
    const now = await post(`/api/replays/${r.id}/${path}`, { database: r.database })
    say(`the replay is ${now.state}, ${now.done} of ${now.events} are done`)
    await list()
  }) }, text)
  if (r.state === 'waiting' || r.state === 'running') return button('Cancel', 'cancel')
  if (r.state === 'cancelled') return button('Resume', 'resume')
  return ''
}
