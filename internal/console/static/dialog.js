// Before anything is changed it is shown what will happen, and asked why.

import { el } from './dom.js'

const dialog = document.getElementById('dialog')

/**
 * Asks. Resolves to the reason that was given ('' where none is asked for), or to
 * undefined where it was called off.
 */
export function ask({ title, body, confirm, danger = false, reason = true }) {
  return new Promise((resolve) => {
    const why = el('input', { id: 'why', required: true, maxlength: 300, autocomplete: 'off' })
    let answer
    const form = el('form', { onsubmit: (event) => {
      event.preventDefault()
      answer = reason ? why.value.trim() : ''
      if (!reason || answer) dialog.close()
    } },
    el('h2', { id: 'dialog-title' }, title),
    el('div', {}, body),
    reason && [el('label', { for: 'why' }, 'Reason; it is noted with your name'), why],
    el('div', { class: 'buttons' },
      el('button', { type: 'button', onclick: () => dialog.close() }, 'Back'),
      el('button', { type: 'submit', class: danger ? 'danger' : 'primary' }, confirm)))
    dialog.replaceChildren(form)
    dialog.addEventListener('close', () => resolve(answer), { once: true })
    dialog.showModal()
    form.querySelector(reason ? '#why' : 'button[type=submit]').focus()
  })
}
