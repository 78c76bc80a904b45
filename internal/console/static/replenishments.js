// What the factory was asked for and has not delivered.

import { get, post, query } from './api.js'
import { attempt, fill } from './attempt.js'
import { ask } from './dialog.js'
import { el, say, show, table } from './dom.js'
import { Pages } from './pages.js'
import { age } from './words.js'

let shown = ''
const container = document.getElementById('replenishments')
const pages = new Pages(live)

export function open() {
  shown = ''
  pages.reset()
}

export function live() {
  return fill(container, async () => {
    try {
      await list()
    } catch (problem) {
      shown = ''
      throw problem
    }
  })
}

async function list() {
  const { items, next } = await get(query('/api/replenishments', { after: pages.after() }))
  const text = JSON.stringify(items)
  if (text === shown) return
  shown = text
  if (!items.length) return show(container, el('p', { class: 'empty' }, pages.after() ? 'No more are open.' : 'None is open.'), pages.controls(next))
  show(container, table('Open replenishments, the oldest first', [
    ['product', (r) => r.sku],
    ['units', (r) => r.quantity, 'number'],
    ['state', (r) => r.state],
    ['open for', (r) => age(r.requestedAt), 'number'],
    ['production', (r) => r.productionId ?? ''],
    ['factory’s inbox', (r) => r.factory || 'not received'],
    ['error', (r) => r.error ?? '', 'reason'],
    ['', (r) => [
      button('Retry', r, `The factory is asked again for ${r.quantity} of ${r.sku}, with the same key and the same callback. One that ignores the key may produce twice; the stock still rises once.`, false),
      button('Cancel', r, `${r.sku} may be asked for again at once. The factory is told nothing: should it deliver all the same, that raises the stock, once.`, true),
    ], 'actions'],
  ], items), pages.controls(next))
}

function button(text, r, what, danger) {
  return el('button', { type: 'button', 'data-key': `${text} ${r.id}`, 'aria-label': `${text} the replenishment of ${r.sku}`, onclick: () => attempt(async () => {
    const reason = await ask({ title: `${text} the replenishment of ${r.sku}`, confirm: text === 'Cancel' ? 'Cancel it' : text, danger, body: el('p', {}, what) })
    if (reason === undefined) return
    await post(`/api/replenishments/${r.id}/${text.toLowerCase()}`, { reason })
    say(text === 'Retry' ? 'the factory is asked again' : 'cancelled')
    await list()
  }) }, text)
}
