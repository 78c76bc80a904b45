// Package load checks out at a shop as many customers do, and measures it.
//
//	report, err := load.Run(ctx, load.Config{URL: "http://127.0.0.1:8080", Connections: 32, For: time.Minute, Pick: load.Uniform(skus)})
//
// A closed loop (no Rate) has each connection send its next checkout when the last
// one is answered. An open loop sends at a constant rate whatever the answers: a
// checkout that is late because the ones before it were slow counts from the moment
// it was due, so that a stall shows with all that it held up. How late this process
// woke by itself does not count.
//
// The client is a small one of its own, because an ordinary one would take as much
// of the machine as the server that is measured.
package load
