package main

import (
	"errors"
	"fmt"
	"net"

	"github.com/restock-dev/restock/api"
	"github.com/restock-dev/restock/internal/ops"
	"github.com/restock-dev/restock/internal/service"
)

type apiCommand struct {
	databaseFlag
	otlpFlags
	Addr            string   `default:"127.0.0.1:8080" env:"RESTOCK_API_ADDR" help:"Where to listen."`
	PublicURL       string   `name:"public-url" env:"RESTOCK_PUBLIC_URL" placeholder:"URL" help:"Where the factory reaches this API for its callback. Default: the address listened on, where that is one."`
	DefaultSKU      string   `name:"default-sku" env:"RESTOCK_DEFAULT_SKU" placeholder:"SKU" help:"What a checkout with an empty body buys."`
	CallbackSecrets []string `env:"RESTOCK_CALLBACK_SECRETS" placeholder:"SECRET" help:"One or two secrets of 16 bytes or more, separated by commas: the first signs callbacks, each is accepted. Best given by the environment."`
	MaxConns        int32    `default:"16" env:"RESTOCK_API_MAX_CONNS" help:"Most connections to the database, beside the one that checkouts are decided on."`
	MaxQueue        int      `default:"1024" env:"RESTOCK_API_MAX_QUEUE" help:"Most checkouts that wait to be decided; more are refused at once."`
}

// apiWindow is the memory of requests under way: many, of 64 KiB at most and mostly
// far less.
const apiWindow = 64 << 20

// Run serves until a signal.
func (c *apiCommand) Run(inv *invocation) error {
	if len(c.CallbackSecrets) == 0 {
		return &setupError{errors.New("no callback secret: set RESTOCK_CALLBACK_SECRETS to 16 random bytes or more, the same for every API process")}
	}
	if c.PublicURL == "" && isEveryAddress(c.Addr) {
		return &setupError{fmt.Errorf("no public URL: --addr %s is every address of this machine, and the factory needs one of them to call back; set RESTOCK_PUBLIC_URL", c.Addr)}
	}
	traces, err := c.start(inv, "api")
	if err != nil {
		return err
	}
	defer traces.Stop()
	if err := reach(inv, "the database", ops.StoreDatabase, c.DatabaseURL); err != nil {
		return err
	}
	tuneGC(apiWindow)
	ln, err := listen(inv, "api", c.Addr)
	if err != nil {
		return err
	}
	cfg := api.Config{
		DSN: c.DatabaseURL, PublicURL: c.PublicURL, DefaultSKU: c.DefaultSKU, MaxConns: c.MaxConns, MaxQueue: c.MaxQueue,
		Logger: inv.log.With().Str("part", "api").Logger(), Metrics: newRegistry(), Tracing: traces.Provider(),
	}
	if cfg.PublicURL == "" {
		cfg.PublicURL = "http://" + ln.Addr().String()
	}
	for _, s := range c.CallbackSecrets {
		cfg.CallbackSecrets = append(cfg.CallbackSecrets, []byte(s))
	}
	a, err := api.New(inv, cfg)
	if err != nil {
		return &setupError{errors.Join(err, ln.Close())}
	}
	return service.Run(inv, a.Run, service.HTTP(ln, a.Handler()))
}

// isEveryAddress tells an address to listen on that is none to connect to. What does not
// parse is for the listener to refuse.
func isEveryAddress(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	return err == nil && (host == "" || net.ParseIP(host).IsUnspecified())
}
