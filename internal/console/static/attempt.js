// Carrying something out for a person.

import { SignInError } from './api.js'
import { say } from './dom.js'

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
