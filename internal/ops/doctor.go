package ops

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/restock-dev/restock/schema"
)

// Level is what a check came to.
type Level string

// The levels of a Check.
const (
	LevelOK      Level = "ok"
	LevelWarn    Level = "warn"    // it works, and something is to be known
	LevelFail    Level = "fail"    // it does not work, or will not
	LevelUnknown Level = "unknown" // it cannot be told
)

// Check is one thing that can be set up wrong.
type Check struct {
	Subject string `json:"subject"` // a database, queue or service
	Name    string `json:"name"`
	Level   Level  `json:"level"`
	Why     string `json:"why"`
	Mend    string `json:"mend,omitempty"` // a command, or SQL, that mends it
}

// DoctorConfig is what there is to be checked. What is not given is not checked.
type DoctorConfig struct {
	Store, Customers DoctorDatabase
	AWS              DoctorAWS
	// FactoryURL and WebhookURL are connected to, and asked nothing.
	FactoryURL, WebhookURL string
	// WebhookAddress is what the consumer refuses a webhook's address by. It is needed
	// with WebhookURL.
	WebhookAddress func(netip.Addr) error
	VIPThreshold   int64
}

// DoctorDatabase is a database with an outbox.
type DoctorDatabase struct {
	Pool *pgxpool.Pool // as schema.RoleMaintenance; nil is not checked
	Slot string
	// WALBudget is the relay's: what the slot may keep where the server sets no bound.
	WALBudget int64
}

// checkTimeout bounds what one question may take.
const checkTimeout = 10 * time.Second

// Examine checks everything and returns what it found, in the order in which a mend
// is best begun.
func Examine(ctx context.Context, cfg DoctorConfig) []Check {
	e := &examination{}
	for _, d := range []struct {
		name   string
		db     DoctorDatabase
		rights []right
	}{
		{"store", cfg.Store, storeRights},
		{"customers", cfg.Customers, customersRights},
	} {
		if d.db.Pool != nil {
			e.database(ctx, d.name, d.db, d.rights)
		}
	}
	if cfg.AWS.SNS != nil {
		e.aws(ctx, cfg.AWS, schema.Interests(cfg.VIPThreshold))
	}
	if cfg.FactoryURL != "" {
		e.reachable(ctx, "factory", cfg.FactoryURL, nil)
	}
	if cfg.WebhookURL != "" {
		e.reachable(ctx, "marketing", cfg.WebhookURL, cfg.WebhookAddress)
	}
	return e.checks
}

// Verdict is the worst level of the checks: fail before unknown before the rest.
func Verdict(checks []Check) Level {
	worst := LevelOK
	for _, c := range checks {
		switch {
		case c.Level == LevelFail:
			return LevelFail
		case c.Level == LevelUnknown:
			worst = LevelUnknown
		case c.Level == LevelWarn && worst == LevelOK:
			worst = LevelWarn
		}
	}
	return worst
}

// examination collects checks.
type examination struct{ checks []Check }

func (e *examination) add(c Check) { e.checks = append(e.checks, c) }

// subject is one whose checks are being made.
type subject struct {
	*examination
	name string
}

func (s subject) ok(name, why string, args ...any) {
	s.add(Check{s.name, name, LevelOK, fmt.Sprintf(why, args...), ""})
}

func (s subject) warn(name, mend, why string, args ...any) {
	s.add(Check{s.name, name, LevelWarn, fmt.Sprintf(why, args...), mend})
}

func (s subject) fail(name, mend, why string, args ...any) {
	s.add(Check{s.name, name, LevelFail, fmt.Sprintf(why, args...), mend})
}

func (s subject) unknown(name string, err error) {
	s.add(Check{s.name, name, LevelUnknown, err.Error(), ""})
}
