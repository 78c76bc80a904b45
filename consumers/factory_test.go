package consumers_test

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/consumers"
	"github.com/restock-dev/restock/internal/localfactory"
	"github.com/restock-dev/restock/schema"
)

// plant is a pretend factory that a worker is wired to.
type plant struct {
	*localfactory.Factory
	server *httptest.Server
	client *http.Client
}

func newPlant(w *world) *plant {
	p := &plant{Factory: localfactory.New(localfactory.Config{})}
	p.server = httptest.NewServer(p.Handler())
	p.client = clientOf(w)
	w.Cleanup(p.server.Close)
	return p
}

func clientOf(w *world) *http.Client {
	transport := &http.Transport{}
	w.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func (w *world) factoryAt(url string, change ...func(*consumers.FactoryConfig)) *consumers.Factory {
	w.Helper()
	cfg := consumers.FactoryConfig{URL: url, Pool: w.pool, Client: clientOf(w)}
	for _, c := range change {
		c(&cfg)
	}
	f, err := consumers.NewFactory(cfg)
	require.NoError(w, err)
	return f
}

func (w *world) state(e schema.Event) (state, productionID string) {
	w.Helper()
	require.NoError(w, w.owner.QueryRow(w.Context(), `SELECT state, coalesce(production_id, '') FROM replenishments WHERE event_id = $1`, e.ID).
		Scan(&state, &productionID))
	return state, productionID
}

// effects lists the outcomes of the event's calls.
func (w *world) effects(e schema.Event) []string {
	w.Helper()
	return scan[[]string](w, `SELECT coalesce(array_agg(outcome ORDER BY id), '{}') FROM effects WHERE event_id = $1 AND kind = 'factory.manufacture'`, e.ID)
}

func TestFactoryOrdersProduction(t *testing.T) {
	w := setup(t)
	type request struct {
		method, path, body string
		header             http.Header
	}
	requests := make(chan request, 1)
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		requests <- request{r.Method, r.URL.Path, string(body), r.Header}
		_, _ = io.WriteString(rw, `{"data":{"data":{},"id":"7d9f1b9e-0000-4000-8000-000000000001","reqestor":"manager@example.com"}}`)
	}))
	defer server.Close()
	worker := w.start(w.factoryAt(server.URL + "/"))
	e := w.request()
	row := w.await(e.ID, "done")
	require.Equal(t, "7d9f1b9e-0000-4000-8000-000000000001", row.effect)
	require.Equal(t, 1, row.attempt)

	got := <-requests
	require.Equal(t, "POST /api/manufactures", got.method+" "+got.path)
	require.Equal(t, "application/json", got.header.Get("Content-Type"))
	require.Equal(t, e.ID.String(), got.header.Get("Idempotency-Key"))
	require.Equal(t, e.Traceparent, got.header.Get("Traceparent"))
	require.Equal(t, map[string]any{
		"MessageGroupId":             "stock-arrival-group",
		"MessageAttributeProductId":  "SKU-1",
		"MessageAttributeProductCnt": "10",
		"MessageAttributeFactoryId":  "FF-500293",
		"MessageAttributeRequester":  "manager@example.com",
		"CallbackUrl":                "http://127.0.0.1:1/stock-increase/1?sig=secret",
	}, decode[map[string]any](w, got.body))

	state, id := w.state(e)
	require.Equal(t, "accepted", state)
	require.Equal(t, row.effect, id)
	require.Equal(t, []string{"ok"}, w.effects(e))
	w.awaitEmpty()
	require.NoError(t, worker.Ready(t.Context()))
	require.NoError(t, worker.stop())
	require.InDelta(t, 1, worker.metric(w, "messages_total", "handled"), 0)
	require.InDelta(t, 1, worker.metric(w, "deletes_total", "ok"), 0)
	require.InDelta(t, 0, worker.metric(w, "in_flight"), 0)
}

// What the factory answers decides what becomes of the event and its
// replenishment.
func TestFactoryAnswers(t *testing.T) {
	for name, test := range map[string]struct {
		fault     localfactory.Fault
		state     string // of the replenishment
		inbox     string
		attempt   int
		effects   []string
		uncertain int
		made      int
		hasID     bool
	}{
		"moved for a while": {fault: localfactory.Fault{Status: 302, Times: 1},
			state: "accepted", inbox: "done", attempt: 2, effects: []string{"failed", "ok"}, made: 1, hasID: true},
		"request time-out": {fault: localfactory.Fault{Status: 408, Times: 1},
			state: "accepted", inbox: "done", attempt: 2, effects: []string{"failed", "ok"}, made: 1, hasID: true},
		"refuses": {fault: localfactory.Fault{Status: 422, Body: "no such product"},
			state: "refused", inbox: "dead", attempt: 1, effects: []string{"failed"}},
		"accepts and answers nonsense": {fault: localfactory.Fault{Status: 200, Body: "<html>", Accept: true},
			state: "accepted", inbox: "done", attempt: 1, effects: []string{"ok"}, made: 1},
		"accepts and answers without end": {fault: localfactory.Fault{Status: 201, Body: strings.Repeat(" ", 1<<20), Accept: true},
			state: "accepted", inbox: "done", attempt: 1, effects: []string{"ok"}, made: 1},
		"is cut before it accepts": {fault: localfactory.Fault{Cut: true, Times: 1},
			state: "accepted", inbox: "done", attempt: 2, effects: []string{"uncertain", "ok"}, uncertain: 1, made: 1, hasID: true},
	} {
		t.Run(name, func(t *testing.T) {
			w := setup(t)
			p := newPlant(w)
			p.Fail(test.fault)
			w.start(w.factoryAt(p.server.URL))
			e := w.request()
			row := w.await(e.ID, test.inbox)
			require.Equal(t, test.attempt, row.attempt)
			require.Equal(t, test.uncertain, row.uncertain)
			require.Equal(t, test.effects, w.effects(e))
			state, id := w.state(e)
			require.Equal(t, test.state, state)
			require.Len(t, p.Productions(), test.made)
			if test.hasID {
				require.Equal(t, p.Productions()[0].ID.String(), id)
				require.Equal(t, e.ID.String(), p.Productions()[0].Key)
			} else {
				require.Empty(t, id)
			}
			w.awaitEmpty()
			if test.inbox == "dead" {
				require.Equal(t, "the factory answered 422 Unprocessable Entity: no such product", row.lastError)
				require.Len(t, w.deadLetters(), 1)
				require.Equal(t, row.lastError, scan[string](w, `SELECT refusal FROM replenishments WHERE event_id = $1`, e.ID))
			}
		})
	}
}

// TestFactoryStillAtTheFirstCall: a call was cut, and the factory, still at it, says
// so to the next one. That is no refusal.
func TestFactoryStillAtTheFirstCall(t *testing.T) {
	w := setup(t)
	answers := make(chan int, 4)
	for _, status := range []int{http.StatusInternalServerError, http.StatusConflict, http.StatusOK, http.StatusConflict} {
		answers <- status
	}
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.WriteHeader(<-answers)
		_, _ = io.WriteString(rw, `{"data":{"id":"7d9f1b9e-0000-4000-8000-000000000001"}}`)
	}))
	defer server.Close()
	w.start(w.factoryAt(server.URL))
	e := w.request()
	require.Equal(t, 3, w.await(e.ID, "done").attempt)
	state, _ := w.state(e)
	require.Equal(t, "accepted", state)

	require.Equal(t, 1, w.await(w.request().ID, "dead").attempt, "a first call has none before it")
}

// stillAt is a factory that is still at a call of before whenever it is asked. The
// first call it leaves unanswered until its caller is gone, and tells of it by cut.
func stillAt(w *world, cut func()) *httptest.Server {
	var first sync.Once
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // or the caller's end is not seen
		if cut != nil {
			first.Do(func() {
				cut()
				<-r.Context().Done()
			})
		}
		rw.WriteHeader(http.StatusConflict)
	}))
	w.Cleanup(server.Close)
	return server
}

// A call that the worker's own end cut costs no attempt, and the next one is no
// first call all the same: its 409 is no refusal.
func TestFactoryStillAtACallThatWasCut(t *testing.T) {
	w := setup(t)
	e := w.request()
	ctx, cut := context.WithCancel(t.Context())
	worker := w.prepare(w.factoryAt(stillAt(w, cut).URL))
	require.Len(t, worker.ProcessBatch(ctx, w.receive()), 1)
	row := w.inbox(e.ID, uuid.Nil)
	require.Equal(t, []int{0, 1}, []int{row.attempt, row.uncertain})
	w.comeBack()
	require.Len(t, worker.ProcessBatch(t.Context(), w.receive()), 1)
	row = w.inbox(e.ID, uuid.Nil)
	require.Equal(t, "failed", row.state)
	require.Equal(t, 1, row.attempt)
	state, _ := w.state(e)
	require.Equal(t, "requested", state)
	require.Empty(t, w.deadLetters())
}

// A first attempt is not always a first call: attempts are counted anew after a
// redrive, and for a replay. Its 409 is no refusal then.
func TestFactoryFirstAttemptsThatAreNoFirstCalls(t *testing.T) {
	for name, before := range map[string]string{
		"cut before":              `INSERT INTO inbox (day, consumer, event_id, state, attempt, repeated_uncertain) VALUES ($1, 'factory', $2, 'failed', 0, 1)`,
		"redriven":                `INSERT INTO inbox (day, consumer, event_id, state, attempt, redrive_id) VALUES ($1, 'factory', $2, 'failed', 0, gen_random_uuid())`,
		"tried under another row": `INSERT INTO inbox (day, consumer, event_id, replay_id, state, attempt) VALUES ($1, 'factory', $2, gen_random_uuid(), 'failed', 1)`,
	} {
		t.Run(name, func(t *testing.T) {
			w := setup(t)
			e := w.request()
			w.exec(before, e.Day, e.ID)
			worker := w.prepare(w.factoryAt(stillAt(w, nil).URL))
			require.Len(t, worker.ProcessBatch(t.Context(), w.receive()), 1)
			row := w.inbox(e.ID, uuid.Nil)
			require.Equal(t, "failed", row.state, row.lastError)
			require.Equal(t, 1, row.attempt)
			state, _ := w.state(e)
			require.Equal(t, "requested", state)
			require.Empty(t, w.deadLetters())
		})
	}
}

func TestFactorySlowIsUncertain(t *testing.T) {
	w := setup(t)
	p := newPlant(w)
	p.Fail(localfactory.Fault{Slow: time.Hour, Times: 1})
	w.start(w.factoryAt(p.server.URL, func(c *consumers.FactoryConfig) { c.Timeout = time.Second }))
	e := w.request()
	row := w.await(e.ID, "done")
	effects := w.effects(e) // on a slow machine more calls than the first may be too slow
	require.Equal(t, "uncertain", effects[0])
	require.Equal(t, "ok", effects[len(effects)-1])
	require.Positive(t, row.uncertain)
}

func TestFactoryAsksOnlyForWhatIsStillWanted(t *testing.T) {
	for _, state := range []string{"accepted", "refused", "cancelled", "delivered"} {
		t.Run(state, func(t *testing.T) {
			w := setup(t)
			p := newPlant(w)
			e := w.request()
			w.exec(`UPDATE replenishments SET state = $2, delivered_quantity = CASE WHEN $2 = 'delivered' THEN 10 END,
				closed_at = CASE WHEN $2 <> 'accepted' THEN now() END WHERE event_id = $1`, e.ID, state)
			w.start(w.factoryAt(p.server.URL))
			row := w.await(e.ID, "done")
			require.Equal(t, "superseded: the replenishment is "+state, row.effect)
			require.Empty(t, p.Productions())
			require.Empty(t, w.effects(e))
		})
	}
}

// A callback may come before the factory's own answer.
func TestFactoryDeliveredIsNeverTakenBack(t *testing.T) {
	w := setup(t)
	e := make(chan schema.Event, 1)
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		_, err := w.owner.Exec(context.Background(), `UPDATE replenishments SET state = 'delivered', delivered_quantity = 10, delivered_at = now(), closed_at = now()
			WHERE event_id = $1`, (<-e).ID)
		if err != nil {
			rw.WriteHeader(http.StatusInternalServerError)
			return
		}
		_, _ = io.WriteString(rw, `{"data":{"data":{},"id":"p-1","reqestor":"x"}}`)
	}))
	defer server.Close()
	w.start(w.factoryAt(server.URL))
	made := w.request()
	e <- made
	w.await(made.ID, "done")
	state, id := w.state(made)
	require.Equal(t, "delivered", state)
	require.Equal(t, "p-1", id)
}

func TestFactoryUnknownReplenishmentIsDeadAfterAFewLooks(t *testing.T) {
	w := setup(t)
	p := newPlant(w)
	w.start(w.factoryAt(p.server.URL))
	e := w.event("SKU-X")
	row := w.await(e.ID, "dead")
	require.Equal(t, 5, row.attempt)
	require.Contains(t, row.lastError, "is unknown")
	require.Empty(t, p.Productions())
}

// Replenishments that are not there, as after a failover that lost them, say nothing
// of the factory, which nobody asked: it is asked for the others meanwhile.
func TestFactoryUnknownReplenishmentsOpenNoCircuit(t *testing.T) {
	w := setup(t)
	p := newPlant(w)
	worker := w.prepare(w.factoryAt(p.server.URL), func(c *consumers.Config) { c.CircuitFailures, c.CircuitOpen = 2, time.Hour })
	for i := range 4 {
		w.event(fmt.Sprintf("SKU-X%d", i))
	}
	require.Len(t, worker.ProcessBatch(t.Context(), w.receive()), 4)
	require.InDelta(t, 0, worker.metric(w, "circuit_state"), 0)
	require.Equal(t, 4, scan[int](w, `SELECT sum(attempt) FROM inbox`), "they are attempts all the same")
	e := w.request()
	require.Empty(t, worker.ProcessBatch(t.Context(), w.receive()))
	require.Equal(t, "done", w.inbox(e.ID, uuid.Nil).state)
}

// A connection on which a call was not answered may lead nowhere any more: the next call
// gets another one, also where the factory would take many calls on one.
func TestFactoryLeavesAConnectionThatIsDead(t *testing.T) {
	w := setup(t)
	p := newPlant(w)
	var mu sync.Mutex
	var from []string
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		mu.Lock()
		from = append(from, r.RemoteAddr)
		first := len(from) == 1
		mu.Unlock()
		if first {
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
			return
		}
		p.Handler().ServeHTTP(rw, r)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	f := w.factoryAt(server.URL, func(c *consumers.FactoryConfig) { c.Client, c.Timeout = nil, time.Second })
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	f.Trust(roots)
	worker := w.prepare(f)
	e := w.request()
	require.Len(t, worker.ProcessBatch(t.Context(), w.receive()), 1)
	require.Equal(t, []string{"uncertain"}, w.effects(e))
	w.comeBack()
	require.Empty(t, worker.ProcessBatch(t.Context(), w.receive()))
	require.Len(t, from, 2)
	require.NotEqual(t, from[0], from[1])
}

func TestFactoryConfigIsChecked(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"", "factory", "ftp://factory", "http://", "http://a b", "ftp://me:hidden@factory", "http://me:hidden@a b"} {
		_, err := consumers.NewFactory(consumers.FactoryConfig{URL: url})
		require.ErrorContains(t, err, "want http://host", url)
		require.NotContains(t, err.Error(), "hidden")
	}
	_, err := consumers.NewFactory(consumers.FactoryConfig{URL: "http://factory"})
	require.ErrorContains(t, err, "pool")
}

// A connection that is cut when it is used again must not make net/http repeat
// the request by itself: a factory that ignores the key would make it twice.
func TestFactoryRequestIsNeverRepeatedUnseen(t *testing.T) {
	w := setup(t)
	var mu sync.Mutex
	asked := make(map[string]int)
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked[r.Header.Get("Idempotency-Key")]++
		all, mine := len(asked), asked[r.Header.Get("Idempotency-Key")]
		mu.Unlock()
		if all == 2 && mine == 1 {
			panic(http.ErrAbortHandler)
		}
		_, _ = io.WriteString(rw, `{"data":{"id":"p-1"}}`)
	}))
	defer server.Close()
	w.start(w.factoryAt(server.URL))
	first := w.request()
	w.await(first.ID, "done")
	second := w.request()
	w.await(second.ID, "done")
	require.Equal(t, []string{"uncertain", "ok"}, w.effects(second), "each call has its row")
}
