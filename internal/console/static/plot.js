// A plot of the last hour, one line for each database.

import { el, show, svg } from './dom.js'

const hour = 3600000
const silence = 60000 // points further apart are not joined: nobody looked
const height = 180
const kinds = ['first', 'second']

/** Plots series of {name, points: [{at, value}]}; least is the least top of the scale. */
export function plot(container, series, unit, least) {
  const width = Math.max(260, container.clientWidth)
  const inner = { left: 56, right: width - 8, top: 10, bottom: height - 24 }
  const now = Math.max(Date.now(), ...series.flatMap((s) => s.points.map((p) => p.at)))
  const top = scale(Math.max(least, ...series.flatMap((s) => s.points.map((p) => p.value))))
  const x = (at) => inner.right - ((now - at) / hour) * (inner.right - inner.left)
  const y = (value) => inner.bottom - (value / top) * (inner.bottom - inner.top)
  const words = series.map(inWords(unit))
  show(container,
    svg('svg', { viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': words.join('; ') },
      [0, 0.5, 1].map((part) => [
        svg('line', { class: 'axis', x1: inner.left, x2: inner.right, y1: y(top * part), y2: y(top * part) }),
        svg('text', { class: 'soft', x: inner.left - 6, y: y(top * part) + 4, 'text-anchor': 'end' }, unit(top * part)),
      ]),
      [[60, 'start'], [30, 'middle'], [0, 'end']].map(([minutes, anchor]) =>
        svg('text', { class: 'soft', x: x(now - minutes * 60000), y: height - 6, 'text-anchor': anchor }, minutes ? `−${minutes} min` : 'now')),
      series.map((s, i) => svg('path', { class: `series ${kinds[i % 2]}`, d: line(s.points, x, y) }))),
    el('p', { class: 'hint legend' }, series.map((s, i) => el('span', {}, swatch(i), words[i]))))
}

function line(points, x, y) {
  return points.map((p, i) => {
    const joined = i && p.at - points[i - 1].at <= silence
    const place = `${x(p.at).toFixed(1)} ${y(p.value).toFixed(1)}`
    return joined ? `L${place}` : `M${place}h.5` // a point alone is seen, too
  }).join('')
}

function swatch(i) {
  return svg('svg', { viewBox: '0 0 26 8', class: 'key', width: 26, height: 8, 'aria-hidden': 'true' }, svg('line', { class: `series ${kinds[i % 2]}`, x1: 0, x2: 26, y1: 4, y2: 4 }))
}

const inWords = (unit) => ({ name, points }) => {
  if (!points.length) return `${name}: nothing known`
  const highest = points.reduce((a, b) => (b.value > a.value ? b : a))
  return `${name}: now ${unit(points.at(-1).value)}, at most ${unit(highest.value)}`
}

// scale is the least of 1, 2, 5, 10, 20, … that is not below the value.
function scale(value) {
  const power = 10 ** Math.floor(Math.log10(value))
  return [1, 2, 5, 10].map((n) => n * power).find((n) => n >= value * 0.9999)
}
