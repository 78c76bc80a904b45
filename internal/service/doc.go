// Package service holds what every long-running part of Restock shares: a group
// that runs parts together, an HTTP server that stops in order, and the one rule
// for delays between tries. It is a leaf: it imports nothing of ours, and any
// part may import it.
//
// A part is a func(context.Context) error that blocks until its work is over:
//
//	ln, err := service.Listen(addr)
//	...
//	return service.Run(ctx, relay.Run, service.HTTP(ln, mux))
//
// # Promises
//
// [Run] returns only when every part has returned, so nothing outlives it, and
// it returns the error that started the stop, not those that followed from it.
// [HTTP] takes no new request once its context ends, lets those under way finish
// under a deadline, and cuts clients that send or read too slowly at any time.
// [Backoff] never waits longer than its Max, for any attempt number.
package service
