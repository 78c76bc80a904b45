// What others wrote reaches the page as text, never as HTML: every node is made here.

const svgNamespace = 'http://www.w3.org/2000/svg'

/** Makes an element. Properties that begin with "on" are listeners, the others attributes. */
export function el(tag, properties = {}, ...children) {
  return fill(document.createElement(tag), properties, children)
}

/** Makes an element of a picture. */
export function svg(tag, properties = {}, ...children) {
  return fill(document.createElementNS(svgNamespace, tag), properties, children)
}

function fill(node, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value)
    else if (value === true) node.setAttribute(name, '')
    else if (value !== undefined && value !== null && value !== false) node.setAttribute(name, value)
  }
  node.append(...present(children))
  return node
}

// present are children that are there: what is false, null or undefined is none.
const present = (children) => children.flat(Infinity).filter((child) => child || child === 0).map((child) => (child instanceof Node ? child : String(child)))

/**
 * Puts children in place of what is in a container. What had the focus keeps it, by its
 * data-key, and what was scrolled stays so.
 */
export function show(container, ...children) {
  const focused = container.contains(document.activeElement) ? document.activeElement.dataset.key : undefined
  const scrolled = [...container.querySelectorAll('.scroll')].map((region) => region.scrollLeft)
  container.replaceChildren(...present(children))
  container.querySelectorAll('.scroll').forEach((region, i) => { region.scrollLeft = scrolled[i] ?? 0 })
  if (focused) container.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true })
}

/** Does as show, unless somebody is about to copy something from there. */
export function refresh(container, ...children) {
  const selection = getSelection()
  if (selection.isCollapsed || !container.contains(selection.anchorNode)) show(container, ...children)
}

const mostRows = 200 // that a person looks through; the commands list all

/** Makes a table. A column is [title, cell of a row, class]; a cell is a node or a text. */
export function table(caption, columns, rows, rowClass = () => undefined) {
  const classOf = (kind) => kind || undefined
  return el('div', {},
    el('p', { class: 'caption' }, caption),
    el('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': caption },
      el('table', { 'aria-label': caption },
        el('thead', {}, el('tr', {}, columns.map(([title, , kind]) => el('th', { scope: 'col', class: classOf(kind) }, title)))),
        el('tbody', {}, rows.slice(0, mostRows).map((row) => el('tr', { class: classOf(rowClass(row)) },
          columns.map(([, cell, kind]) => el('td', { class: classOf(kind) }, cell(row)))))))),
    rows.length > mostRows && el('p', { class: 'hint' }, `and ${rows.length - mostRows} more: the command of the same name lists all`))
}

/** Says which databases could not be asked. */
export const unreachable = (databases, without) => (databases ?? []).map((d) => el('p', { class: 'error', role: 'alert' },
  `The ${d.database} database cannot be reached, ${without}: ${d.error}`))

/** Says in passing what was done. */
export function say(text) {
  const said = document.getElementById('said')
  said.textContent = text
  clearTimeout(say.timer)
  say.timer = setTimeout(() => { said.textContent = '' }, 8000)
}
