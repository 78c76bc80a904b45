// The admin API. An answer that is no success is an Error with the API's own words.

export class SignInError extends Error {}

async function ask(method, path, body) {
  const options = { method, headers: { Accept: 'application/json' }, credentials: 'same-origin' }
  if (body !== undefined) {
    options.headers['Content-Type'] = 'application/json'
    options.body = JSON.stringify(body)
  }
  let answer
  try {
    answer = await fetch(path, options)
  } catch {
    throw new Error('the admin listener cannot be reached')
  }
  if (answer.status === 204) return undefined
  const text = await answer.text()
  let value
  try {
    value = JSON.parse(text)
  } catch {
    throw new Error(`the answer is not JSON (status ${answer.status})`)
  }
  if (answer.ok) return value
  throw new (answer.status === 401 ? SignInError : Error)(value.detail ?? `status ${answer.status}`)
}

export const get = (path) => ask('GET', path)
export const post = (path, body = {}) => ask('POST', path, body)

/** A path with a query, whose empty parts are left out. */
export function query(path, parts) {
  const given = Object.entries(parts).filter(([, value]) => value !== '' && value !== undefined)
  return given.length ? `${path}?${new URLSearchParams(given)}` : path
}
