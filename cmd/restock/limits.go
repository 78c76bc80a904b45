package main

import (
	"errors"
	"time"

	"github.com/restock-dev/restock/internal/ops"
)

// limitsFlags are what is still healthy, for whatever looks at the pipeline.
type limitsFlags struct {
	WALBudget    int64         `name:"wal-budget" env:"RESTOCK_WAL_BUDGET" help:"Bytes of WAL that a slot may keep, where max_slot_wal_keep_size sets no bound. 0: unbounded."`
	MaxLag       time.Duration `default:"1m" env:"RESTOCK_MAX_LAG" help:"Publish lag from which on it is degraded."`
	SlotWarning  time.Duration `default:"1h" env:"RESTOCK_SLOT_WARNING" help:"It is degraded when a slot would be lost within this time if it moved no more."`
	MaxWaiting   time.Duration `default:"5m" env:"RESTOCK_MAX_WAITING" help:"Age of an event in a queue from which on it is degraded."`
	OverdueAfter time.Duration `default:"24h" env:"RESTOCK_OVERDUE_AFTER" help:"How long a replenishment may be open."`
}

// Validate is called by kong.
func (f limitsFlags) Validate() error {
	if f.WALBudget < 0 || f.MaxLag <= 0 || f.SlotWarning <= 0 || f.MaxWaiting <= 0 || f.OverdueAfter <= 0 {
		return errors.New("a limit must be above 0")
	}
	return nil
}

func (f limitsFlags) config() ops.StatusConfig {
	return ops.StatusConfig{
		WALBudget: f.WALBudget,
		Limits:    ops.Limits{Lag: f.MaxLag, SlotLeft: f.SlotWarning, Waiting: f.MaxWaiting, Overdue: f.OverdueAfter},
	}
}
