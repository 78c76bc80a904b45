// The pipeline at a glance: picture, concerns, plots, and the same in numbers.

import { get } from './api.js'
import { el, refresh, table } from './dom.js'
import { draw } from './picture.js'
import { plot } from './plot.js'
import { rate, span, volume } from './words.js'

const hour = 3600000
const apart = 5000 // the least time between two points, as the server keeps them
let points = []
let latest

/** Fetches what was seen before the page was opened. */
export async function begin() {
  points = await get('/api/history')
}

/** Keeps a report for the plots. */
export function keep(report) {
  latest = report
  const at = Date.parse(report.at)
  if (!points.length || at - Date.parse(points.at(-1).at) >= apart) {
    points.push({ at: report.at, relays: report.relays.filter((r) => !r.error) })
  }
  points = points.filter((p) => Date.parse(p.at) >= at - hour)
}

export function live(report) {
  draw(document.getElementById('picture'), report)
  refresh(document.getElementById('concerns'), report.concerns.map((c) => el('div', { class: `box concern ${c.health}` },
    el('strong', {}, `${c.about}: ${c.what}`), el('div', { class: 'hint' }, c.mend))))
  plot(document.getElementById('plot-lag'), series(report, 'lagSeconds'), span, 1)
  plot(document.getElementById('plot-rate'), series(report, 'eventsPerSecond'), rate, 1)
  refresh(document.getElementById('tables'), relays(report), queues(report))
}

// A plot is as wide as its place.
new ResizeObserver(() => { if (latest) requestAnimationFrame(() => live(latest)) }).observe(document.getElementById('picture'))

function series(report, member) {
  return report.relays.map((relay) => ({
    name: relay.database,
    points: points.flatMap((p) => {
      const one = p.relays.find((r) => r.database === relay.database)
      return one ? [{ at: Date.parse(p.at), value: one[member] }] : []
    }),
  }))
}

function relays(report) {
  const known = (cell) => (r) => (r.error ? '?' : cell(r))
  return table('Relays', [
    ['database', (r) => r.database],
    ['relay', (r) => r.state || '?'],
    ['lag', known((r) => span(r.lagSeconds)), 'number'],
    ['unpublished', known((r) => r.unpublished), 'number'],
    ['published', known((r) => rate(r.eventsPerSecond)), 'number'],
    ['drained in', known((r) => span(r.drainSeconds)), 'number'],
    ['slot', (r) => `${r.slot} ${r.slotState}`],
    ['WAL kept', (r) => volume(r.retainedBytes), 'number'],
    ['slot lost in', (r) => span(r.leftSeconds), 'number'],
    ['parked', known((r) => r.parkedEvents), 'number'],
  ], report.relays)
}

function queues(report) {
  const known = (cell) => (q) => (q.error ? '?' : cell(q))
  return table('Queues', [
    ['consumer', (q) => q.consumer],
    ['waiting', known((q) => q.visible), 'number'],
    ['in flight', known((q) => q.inFlight), 'number'],
    ['oldest', known((q) => (q.oldestSeconds === null ? '-' : (q.oldestAtLeast ? 'over ' : '') + span(q.oldestSeconds))), 'number'],
    ['dead', known((q) => q.dead), 'number'],
    ['attempts', known((q) => rate(q.attemptsPerSecond)), 'number'],
    ['failing', known((q) => q.failing), 'number'],
    ['last error', (q) => q.error || q.lastError || '', 'reason'],
  ], report.queues)
}
