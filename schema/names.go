package schema

import "regexp"

// Names that several parts and the deployments share.
const (
	// Topic carries the events of every outbox.
	Topic = "restock-events.fifo"
	// Publication is the outbox's publication, in each database.
	Publication = "restock_outbox"
	// MaxReceiveCount is each queue's: far above the consumers' own limit,
	// because successors of a failing head gain receive counts without being
	// run, so that only a consumer's own count may dead-letter.
	MaxReceiveCount = 1000
)

// Roles of the databases, least privilege each. See the migrations. A role is its
// cluster's, with one password; what it may do is each database's.
const (
	RoleAPI         = "restock_api"         // the shop, in the store
	RoleRelay       = "restock_relay"       // a relay, in either database
	RoleConsumers   = "restock_consumers"   // the consumers with their inbox in the store
	RoleCustomers   = "restock_customers"   // the consumers with their inbox in the customers database
	RoleMaintenance = "restock_maintenance" // looks, in either database
)

// QueueName is a consumer's queue.
func QueueName(consumer string) string { return "restock-" + consumer + ".fifo" }

// DLQName is where a consumer's worker puts what cannot be handled.
func DLQName(consumer string) string { return "restock-" + consumer + "-dlq.fifo" }

// SubscriptionDLQName is where SNS puts what it could not deliver to a
// consumer's queue.
func SubscriptionDLQName(consumer string) string { return "restock-" + consumer + "-sub-dlq.fifo" }

var notSlot = regexp.MustCompile(`[^a-z0-9_]`)

// SlotName is the replication slot of a database. It carries the database's
// name because slot names are unique in the cluster, not in the database.
func SlotName(database string) string {
	name := "restock_" + notSlot.ReplaceAllString(database, "_")
	return name[:min(len(name), 63)]
}
