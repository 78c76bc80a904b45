package service

import (
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
)

// ToWrite has connections made only to a server that writes, unless the database's
// address asks by target_session_attrs for another kind. After a failover a name that was looked up
// too early leads to one that only reads, and a pool would keep a connection to it for as
// long as connections live; so each try looks the name up anew.
func ToWrite(c *pgconn.Config) {
	if c.ValidateConnect == nil {
		c.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
}

// PoolMetrics are a part's metrics of its pool of database connections.
func PoolMetrics(part string, pool *pgxpool.Pool) []prometheus.Collector {
	name := func(s string) string { return prometheus.BuildFQName("restock", part, "pool_"+s) }
	return []prometheus.Collector{
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name("waits_total"), Help: "Times that somebody waited for a database connection."},
			func() float64 { return float64(pool.Stat().EmptyAcquireCount()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name("wait_seconds_total"), Help: "Time that was waited for database connections."},
			func() float64 { return pool.Stat().EmptyAcquireWaitTime().Seconds() }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name("cancelled_total"), Help: "Times that the wait for a database connection was given up."},
			func() float64 { return float64(pool.Stat().CanceledAcquireCount()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name("connections"), Help: "Database connections in use."},
			func() float64 { return float64(pool.Stat().AcquiredConns()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name("connections_max"), Help: "Database connections that there may be."},
			func() float64 { return float64(pool.Stat().MaxConns()) }),
	}
}
