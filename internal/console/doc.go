// Package console is the operators' side of Restock over HTTP: what the commands of the
// same names do (internal/ops), as JSON under /api/, and a page that shows it.
//
//	guard, err := console.NewGuard("127.0.0.1:8089", []console.Token{{Name: "kim", Secret: …}})
//	...
//	c := console.New(console.Config{Guard: guard, Pipeline: p, Status: p.Status(…)})
//	return service.Run(ctx, c.Run, service.HTTP(ln, c.Handler()))
//
// # Who gets in
//
// It has a listener of its own, apart from the shop's. Whoever can use it can have events
// sent again, so everything but the page itself asks for a token, as "Authorization:
// Bearer" or as the cookie that POST /login gives for it; never in a URL, which ends up in
// logs. Without a token it only works on a loopback address, for whoever is on that
// machine. Requests under another host name than those it knows are refused (DNS
// rebinding), and so is what another site's page asks for (CSRF). The token's name
// is kept, or logged, with what is done by it.
//
// What others wrote, in events and errors, reaches the page as text only; its
// Content-Security-Policy lets no script run but the page's own, and no text become HTML.
//
// # What it costs
//
// One sampler looks at the pipeline for all who watch, and keeps an hour of it. Its memory
// is bounded: by the hour, by the number of viewers, by the size of a request. A list is as
// long as what it lists. A viewer that
// does not take a report before the next is dropped, not waited for. Long requests, which
// walk a queue or plan a replay, take turns.
//
// # Stopping
//
// When its server is asked to stop, streams end and long requests are cut off at once:
// what they do can be cut off anywhere, and asked for again (see package ops). Run returns
// when its context ends.
package console
