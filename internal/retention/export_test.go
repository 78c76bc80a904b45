package retention

// Mark is what a run leaves on a table before it detaches it.
const Mark = mark
