// Package localmarketing is a pretend marketing system for the demo and for
// tests: it takes webhooks, keeps them in memory, is strict about them and can
// fail on purpose.
//
//	s, err := localmarketing.New(localmarketing.Config{Secrets: []string{"whsec_…"}})
//	...
//	service.Run(ctx, service.HTTP(ln, s.Handler()))
//
// # API
//
//	POST /webhooks   takes a customer.promoted as CloudEvents JSON
//	GET  /webhooks   lists what was taken
//	GET  /healthz    200 while it runs
//
// # Promises
//
// A webhook is taken only if one of its signatures fits one of the secrets, its
// timestamp is close to now, and its event is complete and has the webhook's id.
// One webhook-id is taken once, however often it comes; the same id with another
// body is refused. The verification is written here from the specification, on
// purpose: one that shared code with the sender would share its mistakes.
// https://www.standardwebhooks.com
package localmarketing
