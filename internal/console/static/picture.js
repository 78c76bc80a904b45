// The pipeline as a picture. It is laid out for the width that there is, so that its text
// has its own size on a phone and at 400% too.

import { show, svg } from './dom.js'
import { rate, span } from './words.js'

const gap = 14

export function draw(container, report) {
  const width = Math.max(260, container.clientWidth)
  const boxes = width >= 720 ? across(report, width) : down(report, width)
  const height = Math.max(...boxes.nodes.map((b) => b.y + b.h)) + 4
  show(container, svg('svg', { viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': inWords(report) },
    boxes.edges.map(edge), boxes.nodes.map(node)))
}

// What the boxes say.
const database = (r) => ({ name: `${r.database} outbox`, lines: r.error ? ['cannot be asked'] : [`lag ${span(r.lagSeconds)}`, `${r.unpublished} unpublished`] })
const relay = (r) => ({ name: 'relay', lines: [r.state || 'unknown', r.error ? '' : rate(r.eventsPerSecond), r.parkedEvents ? `${r.parkedEvents} parked` : ''].filter(Boolean) })
const queue = (q) => ({ name: q.consumer, lines: q.error ? ['cannot be asked'] : [`${q.visible} waiting`, `${q.inFlight} in flight`, `${q.dead} dead`] })

function stateOf(report, about) {
  const concerns = report.concerns.filter((c) => c.about === about)
  if (concerns.some((c) => c.health === 'unknown')) return 'unknown'
  return concerns.length ? 'bad' : ''
}

function across(report, width) {
  const rowHeight = 84
  const column = (from, to) => ({ x: width * from + 2, w: width * (to - from) - 4 })
  const [outbox, sender, topic, consumer] = [column(0, 0.24), column(0.31, 0.49), column(0.56, 0.68), column(0.75, 1)]
  const rows = Math.max(report.queues.length, 2 * report.relays.length, 1)
  const height = rows * (rowHeight + gap) - gap
  const middle = (i, n) => (height / n) * (i + 0.5) - rowHeight / 2
  const topicBox = { ...topic, y: height / 2 - rowHeight / 2, h: rowHeight, name: 'SNS topic', lines: ['FIFO', `${rate(report.relays.reduce((n, r) => n + r.eventsPerSecond, 0))} in`], state: '' }
  const nodes = [topicBox]
  const edges = []
  report.relays.forEach((r, i) => {
    const state = stateOf(report, r.database)
    const from = { ...outbox, y: middle(i, report.relays.length), h: rowHeight, ...database(r), state: r.error ? 'unknown' : '' }
    const to = { ...sender, y: from.y, h: rowHeight, ...relay(r), state }
    nodes.push(from, to)
    edges.push(right(from, to), right(to, topicBox))
  })
  report.queues.forEach((q, i) => {
    const to = { ...consumer, y: middle(i, report.queues.length), h: rowHeight, ...queue(q), state: stateOf(report, q.consumer) }
    nodes.push(to)
    edges.push(right(topicBox, to))
  })
  return { nodes, edges }
}

function down(report, width) {
  const rowHeight = 88
  const half = (i, n) => ({ x: (width / n) * i + 2, w: width / n - gap })
  const step = rowHeight + 26
  const topicBox = { x: 2, w: width - gap, y: 2 * step, h: 44, name: 'SNS topic', lines: [], state: '' }
  const nodes = [topicBox]
  const edges = []
  report.relays.forEach((r, i) => {
    const place = half(i, report.relays.length)
    const from = { ...place, y: 2, h: rowHeight, ...database(r), name: r.database, state: r.error ? 'unknown' : '' }
    const to = { ...place, y: step, h: rowHeight, ...relay(r), state: stateOf(report, r.database) }
    nodes.push(from, to)
    edges.push(below(from, to), below(to, topicBox))
  })
  report.queues.forEach((q, i) => {
    const to = { ...half(i % 2, 2), y: topicBox.y + topicBox.h + 26 + Math.floor(i / 2) * (rowHeight + gap), h: rowHeight, ...queue(q), state: stateOf(report, q.consumer) }
    nodes.push(to)
    if (i < 2) edges.push(below(topicBox, to))
  })
  return { nodes, edges }
}

const right = (from, to) => ({ x1: from.x + from.w, y1: from.y + from.h / 2, x2: to.x, y2: to.y + to.h / 2, across: true })
const below = (from, to) => {
  const x = Math.max(from.x, to.x) + Math.min(from.w, to.w) / 2
  return { x1: x, y1: from.y + from.h, x2: x, y2: to.y, across: false }
}

function edge({ x1, y1, x2, y2, across: sideways }) {
  const [endX, endY] = sideways ? [x2 - 8, y2] : [x2, y2 - 8]
  const path = sideways ? `M${x1} ${y1}C${(x1 + x2) / 2} ${y1} ${(x1 + x2) / 2} ${y2} ${endX} ${endY}` : `M${x1} ${y1}L${endX} ${endY}`
  const tip = sideways ? `${x2},${y2} ${x2 - 9},${y2 - 5} ${x2 - 9},${y2 + 5}` : `${x2},${y2} ${x2 - 5},${y2 - 9} ${x2 + 5},${y2 - 9}`
  return svg('g', {}, svg('path', { class: 'edge', d: path }), svg('polygon', { class: 'tip', points: tip }))
}

function node(box) {
  return svg('g', {},
    svg('rect', { class: `node ${box.state}`, x: box.x, y: box.y, width: box.w, height: box.h, rx: 8 }),
    svg('text', { class: 'name', x: box.x + 10, y: box.y + 22 }, box.name),
    box.state && svg('text', { class: `mark ${box.state}`, x: box.x + box.w - 10, y: box.y + 22, 'text-anchor': 'end' }, box.state === 'bad' ? '!' : '?'),
    box.lines.map((line, i) => svg('text', { class: i ? 'soft' : '', x: box.x + 10, y: box.y + 41 + i * 17 }, line)))
}

function inWords(report) {
  const relays = report.relays.map((r) => (r.error ? `${r.database}: cannot be asked` : `${r.database}: relay ${r.state}, lag ${span(r.lagSeconds)}, ${rate(r.eventsPerSecond)} published`))
  const queues = report.queues.map((q) => (q.error ? `${q.consumer}: cannot be asked` : `${q.consumer}: ${q.visible} waiting, ${q.dead} dead`))
  return [...relays, ...queues].join('; ')
}
