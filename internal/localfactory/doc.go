// Package localfactory is a pretend factory for the demo and for tests: it speaks
// the factory's documented API, keeps what it was asked in memory, and after a
// while delivers by calling back. It is strict about requests and can fail on
// purpose.
//
//	f := localfactory.New(localfactory.Config{Delay: 3 * time.Second})
//	service.Run(ctx, f.Run, service.HTTP(ln, f.Handler()))
//
// # API
//
//	POST /api/manufactures   orders a production: six members, all strings
//	GET  /api/manufactures   lists the productions
//	GET  /healthz            200 while it runs
//
// # Promises
//
// One Idempotency-Key is one production, however often it is asked, unless
// Config.IgnoreKey says otherwise. A callback is repeated until it is answered
// with 2xx, long enough for the other side to restart, and given up on an answer
// that says it will never be taken. Run returns once all its callbacks have
// ended; one that it cut is made by the next Run.
package localfactory
