// Signing in, the views, and what is live.

import { get, post, SignInError } from './api.js'
import { attempt } from './attempt.js'
import { el } from './dom.js'
import { moment } from './words.js'
import * as pipeline from './pipeline.js'
import * as events from './events.js'
import * as parked from './parked.js'
import * as dead from './dead.js'
import * as replay from './replay.js'
import * as replenishments from './replenishments.js'
import * as books from './books.js'

// A view may have open(), called when it is shown, and live(report), called for each
// report while it is.
const views = { pipeline, events, parked, dead, replay, replenishments, books }
const byId = (id) => document.getElementById(id)
let latest // the newest report
let stream

function signIn() {
  stream?.close()
  byId('app').hidden = true
  byId('login').hidden = false
  byId('token').focus()
}

document.addEventListener('signin', signIn)

byId('login').addEventListener('submit', async (event) => {
  event.preventDefault()
  byId('login-error').textContent = ''
  try {
    await post('/login', { token: byId('token').value.trim() })
    byId('token').value = ''
    await begin()
  } catch (problem) {
    byId('login-error').textContent = problem.message
    byId('token').select()
  }
})

byId('logout').addEventListener('click', () => attempt(async () => {
  await post('/logout')
  location.reload()
}))

async function begin() {
  await pipeline.begin()
  byId('login').hidden = true
  byId('app').hidden = false
  route()
  watch()
}

function watch() {
  stream?.close()
  stream = new EventSource('/api/live')
  stream.addEventListener('status', (event) => report(JSON.parse(event.data)))
  stream.addEventListener('error', () => {
    if (stream.readyState !== EventSource.CLOSED) return // it comes back by itself
    comeBack()
  })
}

// A stream that a proxy or a restart has ended for good is begun anew, until it is
// the sign-in that is over.
function comeBack() {
  setTimeout(async () => {
    try {
      await get('/api/history')
      watch()
    } catch (error) {
      if (error instanceof SignInError) attempt(() => Promise.reject(error))
      else comeBack()
    }
  }, 5000)
}

function report(now) {
  latest = now
  tellHealth(now)
  badge('parked-count', sum(now.relays, 'parkedEvents'))
  badge('dead-count', sum(now.queues, 'dead'))
  badge('replenishments-count', now.relays.reduce((n, r) => n + (r.replenishments?.overdue ?? 0), 0))
  pipeline.keep(now)
  if (!document.hidden) views[shown()].live?.(now)
}

const sum = (list, member) => list.reduce((n, one) => n + one[member], 0)

function badge(id, n) {
  byId(id).textContent = n
  byId(id).hidden = n === 0
}

// Written only when it is another text: it is read out each time. What changes with each
// look is with the concerns.
function tellHealth(now) {
  const about = [...new Set(now.concerns.map((c) => c.about))].join(', ')
  const text = about ? `${now.health}: ${about}` : now.health
  const line = byId('health')
  line.className = `health ${now.health}`
  if (line.textContent !== text) line.textContent = text
  byId('stale').textContent = ''
}

setInterval(() => {
  if (latest && Date.now() - Date.parse(latest.at) > 30000) byId('stale').textContent = `no news since ${moment(latest.at)}`
}, 5000)

const shown = () => (location.hash.slice(1) in views ? location.hash.slice(1) : 'pipeline')

function route() {
  for (const section of document.querySelectorAll('[data-view]')) section.hidden = section.dataset.view !== shown()
  for (const link of document.querySelectorAll('nav a')) {
    if (link.hash === `#${shown()}`) link.setAttribute('aria-current', 'page')
    else link.removeAttribute('aria-current')
  }
  views[shown()].open?.()
  if (latest) views[shown()].live?.(latest)
}

window.addEventListener('hashchange', () => {
  if (byId('app').hidden) return
  route()
  byId('main').focus({ preventScroll: true })
  scrollTo(0, 0)
})
document.addEventListener('visibilitychange', () => { if (latest && !document.hidden) report(latest) })

try {
  await begin()
} catch (problem) {
  if (problem instanceof SignInError) signIn()
  else document.body.append(el('p', { class: 'card error', role: 'alert' }, problem.message))
}
