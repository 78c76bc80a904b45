// Carrying something out for a person.

import { SignInError } from './api.js'
import { el, say, show } from './dom.js'

/** Carries something out and says what went wrong. A sign-in that is over is an event of the document. */
export async function attempt(work) {
  try {
    return await work()
  } catch (problem) {
    if (problem instanceof SignInError) document.dispatchEvent(new Event('signin'))
    else say(problem.message)
    return undefined
  }
}

/** Carries out what fills a container, and says there what went wrong. */
export async function fill(container, work) {
  try {
    return await work()
  } catch (problem) {
    if (problem instanceof SignInError) document.dispatchEvent(new Event('signin'))
    else show(container, el('p', { class: 'error', role: 'alert' }, problem.message))
    return undefined
  }
}

/** What a part of a page asks for, or, in its place, why it is not there. */
export async function part(work) {
  try {
    return await work()
  } catch (problem) {
    if (problem instanceof SignInError) throw problem
    return { items: [], error: problem.message }
  }
}
