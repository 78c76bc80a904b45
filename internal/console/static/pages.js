// Paging. A list comes in parts, so that a long one costs no more than a short one.

import { el } from './dom.js'

/** Where each of some lists stands; draw draws them anew. */
export class Pages {
  #after = new Map() // by list

  constructor(draw) {
    this.draw = draw
  }

  /** What to ask for, to be in a query. */
  after(list = '') {
    return this.#after.get(list)
  }

  reset() {
    this.#after.clear()
  }

  /** The buttons of a list whose part goes on at next; nothing where there is one part only. */
  controls(next, list = '') {
    const go = (text, after) => el('button', { type: 'button', 'data-key': `${text} ${list}`, onclick: () => {
      this.#after.set(list, after)
      this.draw()
    } }, text)
    const buttons = [this.after(list) && go('Back to the beginning', undefined), next && go('More', next)].filter(Boolean)
    return buttons.length > 0 && el('p', { class: 'row' }, buttons)
  }
}
