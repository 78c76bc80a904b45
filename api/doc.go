// Package api is the shop's HTTP face: POST /checkout, the factory's callback
// POST /stock-increase/{id}, and reading products and orders. openapi.yaml is
// its contract; the tests hold every answer they see against it.
//
//	a, err := api.New(ctx, api.Config{DSN: dsn, PublicURL: url, DefaultSKU: sku, CallbackSecrets: secrets})
//	...
//	return service.Run(ctx, a.Run, service.HTTP(ln, a.Handler()))
//
// # Promises
//
// One transaction: a checkout's stock, order and event commit together or not
// at all, and so do a refusal's production order and its event, and a
// delivery's stock and its event. Units sold plus units left is initial stock
// plus units delivered, always.
//
// Checkouts that wait together are decided together, in one transaction, each as if
// it had come alone and in the order of arrival. One that does not fit takes nothing,
// so that a large one does not block a smaller one behind it. What might hold a batch
// up (a locked product, a row that the database refuses) leaves it, and no request
// fails for another's sake. The queue is bounded: when it is full, 503 at once.
//
// One Idempotency-Key is one decision, kept with its answer in the checkout's own
// transaction: whoever tries again, at whichever process and after whatever crash,
// gets that answer.
//
// A refusal is decided under the product's row lock. No production is ordered
// while the stock suffices, one replenishment is open for a SKU at a time, and
// every 409 out-of-stock names the replenishment that is to mend it.
//
// Locks are taken in one order: keys, products by SKU, replenishments, inserts. For a
// key nobody waits.
//
// An answer is true or says that it does not know. Order ids are made before
// the transaction; where a COMMIT got no answer, the order is looked up on a
// new connection and answered from what is there. Only if that fails is the
// answer 503 outcome-unknown, with the order id to ask for later. The server's
// own timeouts fire before ours, so a slow database is a definite rollback: 503
// unavailable, nothing bought. A checkout whose outcome is unknown is never run
// again.
//
// A client that goes away takes its checkout back only while that still waits.
//
// A callback raises the stock once, however often it is sent and whatever else
// happened to its replenishment. It is believed only with a signature over the
// replenishment's id, SKU and asked quantity. Signatures and mail addresses are
// never logged.
//
// Every event has the trace context of the request that wrote it, and the log line
// of that request its id, whether requests are traced or not. A delivery's is that of
// the checkout which it was asked for, where that can be read.
//
// # Starting and stopping
//
// New checks the configuration and does not need the database; without one the
// handler answers 503 and Run goes on trying. Run keeps the partitions made
// ahead, and when its context ends waits for the requests under way and closes
// the connections.
package api
