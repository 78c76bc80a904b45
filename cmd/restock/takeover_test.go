package main

import (
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/figure"
	"github.com/restock-dev/restock/schema"
)

// senderTimeout is short: it is most of what a takeover from a relay that says
// nothing takes.
const senderTimeout = "2s"

// TestTakeover lets a standby take over from a relay that dies in each way, and the
// dead one come back where it can. Nothing is lost, each group stays in order, and
// the slot is confirmed by one of them at a time. It prints how long each took.
func TestTakeover(t *testing.T) {
	t.Parallel()
	for _, way := range []struct {
		name string
		die  func(*testing.T, *pair)
		back func(*pair)
	}{
		{"kill", func(_ *testing.T, p *pair) { p.active.kill() }, func(p *pair) { p.active.start() }},
		{
			"freeze", func(t *testing.T, p *pair) { require.NoError(t, p.active.cmd.Process.Signal(syscall.SIGSTOP)) },
			func(p *pair) { require.NoError(p.t, p.active.cmd.Process.Signal(syscall.SIGCONT)) },
		},
		{"cut_network", func(t *testing.T, p *pair) { p.cut(t) }, func(p *pair) { p.mend() }},
	} {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t)
			p.commit(5)
			p.settled()
			way.die(t, p)
			died := time.Now()
			p.commit(5)
			p.settled()
			figure.Print(os.Stdout, "relay_takeover_after_"+way.name, "s", figure.Goal{}, time.Since(died).Seconds())
			p.eventually("the standby is active", func() bool { return p.state(p.standby) == "" })

			way.back(p)
			p.eventually("the old one stands by", func() bool { return strings.Contains(p.state(p.active), "standby") })
			p.commit(5)
			p.settled()
			p.publishedInOrder(p.queue, 15)
		})
	}
}

// pair is an active relay, whose way to the database can be cut, and a standby.
type pair struct {
	*stack
	proxy           *toxiproxy.Proxy
	queue           string
	active, standby *process
}

func newPair(t *testing.T) *pair {
	t.Helper()
	db, pool := newDatabase(t, store)
	s := &stack{t: t, ctx: t.Context(), pool: pool}
	s.aws = launch(t, nil, "localaws", "--addr", "127.0.0.1:0")
	s.clients()
	p := &pair{stack: s, queue: s.subscribe()}
	dsn, err := url.Parse(db.RoleDSN(schema.RoleRelay, password))
	require.NoError(t, err)
	p.proxy = toxiproxy.NewProxy(toxiproxy.NewServer(toxiproxy.NewMetricsContainer(prometheus.NewRegistry()), zerolog.Nop()), "postgres", "127.0.0.1:0", dsn.Host)
	require.NoError(t, p.proxy.Start())
	t.Cleanup(p.proxy.Stop)
	through := *dsn
	through.Host = p.proxy.Listen
	p.active = p.relay(t, through.String())
	p.eventually("the first is active", func() bool { return p.state(p.active) == "" })
	p.standby = p.relay(t, dsn.String())
	p.eventually("the second stands by", func() bool { return strings.Contains(p.state(p.standby), "standby") })
	return p
}

func (p *pair) relay(t *testing.T, dsn string) *process {
	t.Helper()
	return launch(t, []string{
		"AWS_ENDPOINT_URL=" + p.stack.aws.endpoints["aws"], "AWS_REGION=ap-northeast-2", "AWS_ACCESS_KEY_ID=local", "AWS_SECRET_ACCESS_KEY=local",
		"RESTOCK_DATABASE_URL=" + dsn, "RESTOCK_TOPIC_ARN=" + p.topic, "RESTOCK_SENDER_TIMEOUT=" + senderTimeout,
	}, "relay", "--http-addr", "127.0.0.1:0")
}

// cut lets nothing through any more, in either direction, and closes nothing.
func (p *pair) cut(t *testing.T) {
	t.Helper()
	for _, stream := range []string{"upstream", "downstream"} {
		_, err := p.proxy.Toxics.AddToxicJson(strings.NewReader(`{"name":"cut_` + stream + `","type":"timeout","stream":"` + stream + `","attributes":{"timeout":0}}`))
		require.NoError(t, err)
	}
}

func (p *pair) mend() { p.proxy.Toxics.ResetToxics(p.ctx) }

// state is what a relay says of itself; "" is active.
func (p *pair) state(relay *process) string {
	for _, u := range relay.endpoints {
		res, err := http.Get(u + "/readyz")
		if err != nil {
			return err.Error()
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		if res.StatusCode == http.StatusOK {
			return ""
		}
		return string(body)
	}
	return "no endpoint"
}

// commit appends events of one group, each a transaction of its own.
func (p *pair) commit(n int) {
	p.t.Helper()
	for range n {
		e, err := schema.New(schema.NewID(), schema.OrderPlaced{OrderID: schema.NewID(), CustomerID: "c", Quantity: 1, Lines: []schema.Line{{SKU: "A", Quantity: 1}}}, "")
		require.NoError(p.t, err)
		require.NoError(p.t, schema.Append(p.ctx, p.pool, e))
	}
}
