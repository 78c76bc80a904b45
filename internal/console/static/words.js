// Numbers and times for people. All times are UTC, as in the commands.

/** Seconds, such as 3.2 s or 4 m 10 s; nothing given is for ever. */
export function span(seconds) {
  if (seconds === null || seconds === undefined) return 'never'
  if (seconds < 10) return `${Math.round(seconds * 10) / 10} s`
  const whole = Math.round(seconds)
  if (whole < 60) return `${whole} s`
  if (whole < 3600) return `${Math.floor(whole / 60)} m ${whole % 60} s`
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor(whole % 3600 / 60)} m`
  return `${Math.floor(whole / 86400)} d ${Math.floor(whole % 86400 / 3600)} h`
}

export function volume(bytes) {
  let value = bytes
  for (const unit of ['B', 'KiB', 'MiB', 'GiB']) {
    if (value < 1024) return `${unit === 'B' ? value : value.toFixed(1)} ${unit}`
    value /= 1024
  }
  return `${value.toFixed(1)} TiB`
}

/** A rate, to two figures: one event in a minute is not none. */
export const rate = (n) => `${n < 10 ? Number(n.toPrecision(2)) : Math.round(n)}/s`

export const age = (at) => span(Math.max(0, (Date.now() - Date.parse(at)) / 1000))

/** A moment: the time today, the date too on another day. */
export function moment(at) {
  const text = new Date(at).toISOString()
  const [day, time] = text.split('T')
  return day === new Date().toISOString().split('T')[0] ? `${time.slice(0, 12)}Z` : `${day} ${time.slice(0, 8)}Z`
}

export const count = (n, one, many = `${one}s`) => `${n} ${n === 1 ? one : many}`

/** The time between two moments, such as +12 ms. */
export function since(before, at) {
  const ms = Math.max(0, Date.parse(at) - Date.parse(before))
  return ms < 10000 ? `+${ms} ms` : `+${span(ms / 1000)}`
}
