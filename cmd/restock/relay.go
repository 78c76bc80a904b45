package main

import (
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel/attribute"

	"github.com/restock-dev/restock/internal/service"
	"github.com/restock-dev/restock/relay"
	"github.com/restock-dev/restock/schema"
)

type relayCommand struct {
	databaseFlag
	httpFlag
	otlpFlags
	TopicARN    string `name:"topic-arn" required:"" env:"RESTOCK_TOPIC_ARN" placeholder:"ARN" help:"The SNS FIFO topic."`
	Slot        string `env:"RESTOCK_SLOT" help:"Replication slot. Default: restock_ and the database's name."`
	Publication string `default:"restock_outbox" env:"RESTOCK_PUBLICATION" help:"Publication of the outbox table."`
	Window      int    `default:"67108864" env:"RESTOCK_WINDOW" help:"Memory for events that are under way, in bytes."`
	InFlight    int    `default:"16" env:"RESTOCK_IN_FLIGHT" help:"Calls to SNS that may be under way at once."`
	WALBudget   int64  `name:"wal-budget" env:"RESTOCK_WAL_BUDGET" help:"Bytes of WAL that the slot may keep, where max_slot_wal_keep_size sets no bound: what the time until it is lost is computed against. 0: unbounded."`

	SlotWarning   time.Duration `default:"1h" env:"RESTOCK_SLOT_WARNING" help:"Log a warning when the slot would be lost within this time if it moved no more."`
	SlotAlarm     time.Duration `default:"10m" env:"RESTOCK_SLOT_ALARM" help:"Log an error when the slot would be lost within this time."`
	HoldAfter     time.Duration `default:"10m" env:"RESTOCK_HOLD_AFTER" help:"How long an event may fail while those of other groups are accepted, before its group is parked."`
	SenderTimeout time.Duration `default:"30s" env:"RESTOCK_SENDER_TIMEOUT" help:"After so long without a word Postgres lets go of this relay, and a standby takes over."`
	StallAfter    time.Duration `default:"2m" env:"RESTOCK_STALL_AFTER" help:"How long events may wait while nothing is recorded or confirmed before /progressz says that the relay is stuck."`
	StockSDK      bool          `name:"stock-sdk" env:"RESTOCK_STOCK_SDK" help:"Leave it to the AWS SDK to write requests and to read answers, at about twice the processor time."`
}

// Help is what -h says besides the flags.
func (c *relayCommand) Help() string {
	return "Unless GOGC and GOMEMLIMIT are set, Go's collector runs with GOGC=400, and with GOMEMLIMIT at 48 MiB and twice the window: " +
		"the size from which it collects sooner, not one at which the relay stops."
}

// Run relays until a signal.
func (c *relayCommand) Run(inv *invocation) error {
	tuneGC(c.Window)
	cfg, err := awsConfig(inv)
	if err != nil {
		return err
	}
	slot, err := slotName(c.Slot, c.DatabaseURL)
	if err != nil {
		return err
	}
	traces, err := c.start(inv, "relay", attribute.String("restock.slot", slot))
	if err != nil {
		return err
	}
	defer traces.Stop()
	publisher, err := relay.NewSNS(relay.SNSConfig{AWS: cfg, TopicARN: c.TopicARN, Conns: c.InFlight, StockSDK: c.StockSDK, Tracing: traces.Provider()})
	if err != nil {
		return &setupError{err}
	}
	if err := c.reach(inv); err != nil {
		return err
	}
	reg := newRegistry()
	r, err := relay.New(relay.Config{
		DSN: c.DatabaseURL, Slot: slot, Publication: c.Publication, Publisher: publisher,
		Window: c.Window, InFlight: c.InFlight, HoldAfter: c.HoldAfter, SenderTimeout: c.SenderTimeout,
		WALBudget: c.WALBudget, WarnBefore: c.SlotWarning, AlarmBefore: c.SlotAlarm, StallAfter: c.StallAfter,
		Logger: inv.log.With().Str("part", "relay").Logger(), Metrics: reg,
	})
	if err != nil {
		return &setupError{err}
	}
	ln, err := listen(inv, "relay", c.HTTPAddr)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	service.Health(mux, r.Ready, reg)
	service.Progress(mux, r.Progress)
	return service.Run(inv, r.Run, service.HTTP(ln, mux))
}

// slotName is the slot that was asked for, or the database's own.
func slotName(asked, dsn string) (string, error) {
	if asked != "" {
		return asked, nil
	}
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return "", &setupError{err}
	}
	return schema.SlotName(cfg.Database), nil
}
