package console_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/console"
	"github.com/restock-dev/restock/internal/ops"
	"github.com/restock-dev/restock/schema"
)

// TestLook: what is seen of the pipeline, and of one event.
func TestLook(t *testing.T) {
	w := setup(t)
	order := schema.OrderPlaced{OrderID: uuid.New(), CustomerID: "c-1", Quantity: 2, Lines: []schema.Line{{SKU: "A", Quantity: 2}}}
	first, second := w.commit(order, "published"), w.commit(request("A"), "")
	require.Eventually(t, func() bool {
		status, body := w.call("GET", "/api/status", nil)
		return status == http.StatusOK && strings.Contains(body, `"unpublished":1`)
	}, patience, time.Millisecond)
	report := get[ops.StatusReport](w, "/api/status")
	require.Len(t, report.Relays, 2)
	require.Len(t, report.Queues, 4)
	require.Equal(t, ops.Degraded, report.Health, "no relay is at work")

	events := get[ops.RecentEvents](w, "/api/events").Items
	require.Equal(t, []uuid.UUID{second.ID, first.ID}, []uuid.UUID{events[0].EventID, events[1].EventID})
	require.Equal(t, []string{"waiting", "published"}, []string{events[0].State, events[1].State})
	newest := get[ops.RecentEvents](w, "/api/events?most=1")
	require.Equal(t, second.ID, newest.Items[0].EventID)
	older := get[ops.RecentEvents](w, "/api/events?most=1&after="+newest.Next)
	require.Equal(t, first.ID, older.Items[0].EventID)
	require.Empty(t, older.Next)
	w.refuses(http.StatusUnprocessableEntity, "goes on after the next", "GET", "/api/events?after=x", nil)
	w.refuses(http.StatusUnprocessableEntity, "a number from 1 to", "GET", "/api/events?most=1000000", nil)

	traced := get[ops.Trace](w, "/api/trace/"+first.ID.String())
	require.Equal(t, schema.TypeOrderPlaced, traced.Events[0].Type)
	w.refuses(http.StatusNotFound, "has this id", "GET", "/api/trace/"+uuid.NewString(), nil)
	w.refuses(http.StatusUnprocessableEntity, "want a UUID", "GET", "/api/trace/1", nil)
	w.refuses(http.StatusNotFound, "nothing that is served here", "GET", "/api/statuses", nil)
	w.refuses(http.StatusNotFound, "nothing that is served here", "DELETE", "/api/status", object{})
	w.refuses(http.StatusNotFound, "nothing is compared here", "GET", "/api/reconcile", nil)
}

// TestTextOfNobody: what no text of a database can hold is the client's fault, wherever it
// stands.
func TestTextOfNobody(t *testing.T) {
	w := setup(t)
	w.park("A")
	for _, path := range []string{"/api/parked?group=%00", "/api/parked?group=%ff", "/api/parked?group=a&after=%00", "/api/parked/%00", "/api/trace/%00",
		"/api/replays/%00", "/api/dlq/%00", "/api/dlq?consumer=%00", "/api/events?after=%ff", "/api/replenishments?openFor=%00", "/api/parked?database=%00"} {
		w.refuses(http.StatusBadRequest, "neither NUL nor what is not UTF-8", "GET", path, nil)
	}
	w.refuses(http.StatusBadRequest, "neither NUL nor what is not UTF-8", "POST", "/api/replays/%00/cancel", object{})
	for path, body := range map[string]object{
		"/api/parked/send":  {"groups": []string{"a\x00"}, "reason": "x"},
		"/api/parked/skip":  {"groups": []string{"A"}, "reason": "a\x00"},
		"/api/replays/plan": {"groups": []string{"a\x00"}},
		"/api/replays":      {"groups": []string{"\x00"}},
		"/api/dlq/redrive":  {"consumers": []string{"\x00"}, "reason": "x"},
	} {
		w.refuses(http.StatusUnprocessableEntity, "must hold no NUL", "POST", path, body)
	}
	require.Equal(t, 1, w.count(`parked WHERE state = 'parked'`))
}

// TestLive: whoever watches gets each look, for longer than the server gives an ordinary
// request, is counted, and is let go when the server stops.
func TestLive(t *testing.T) {
	w := setup(t)
	w.hurry()
	watch := func() *http.Response {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.url+"/api/live", nil)
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+secret)
		res, err := w.client.Do(req)
		require.NoError(t, err)
		t.Cleanup(func() { res.Body.Close() })
		return res
	}
	res := watch()
	require.Equal(t, "text/event-stream", res.Header.Get("Content-Type"))
	frames := w.frames(res.Body, 12)
	require.Equal(t, "retry: 3000\n\n", frames[0])
	var before time.Time
	for _, f := range frames[1:] {
		var r ops.StatusReport
		text, is := strings.CutPrefix(f, "event: status\ndata: ")
		require.True(t, is, f)
		require.NoError(t, json.Unmarshal([]byte(text), &r), f)
		require.True(t, r.At.After(before), "each look once")
		before = r.At
	}
	require.NotEmpty(t, get[[]json.RawMessage](w, "/api/history"))
	for range 31 {
		require.Equal(t, http.StatusOK, watch().StatusCode)
	}
	require.Equal(t, http.StatusServiceUnavailable, watch().StatusCode, "too many")
	w.stop()
}

// TestReplays: planned, started twice at once, cancelled, resumed; and what is no
// selection.
func TestReplays(t *testing.T) {
	w := setup(t)
	e := w.commit(request("A"), "published")
	since := time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)
	range_ := object{"since": since}

	plan := post[ops.ReplayPlan](w, "/api/replays/plan", range_)
	require.EqualValues(t, 1, plan.Events)
	require.Nil(t, plan.ID)
	require.InDelta(t, 1.0/ops.DefaultRate, *plan.Seconds, 1e-9)
	require.Equal(t, e.ID, plan.First.EventID)

	var started [2]ops.ReplayPlan
	var both sync.WaitGroup
	for i := range started {
		both.Go(func() { started[i] = post[ops.ReplayPlan](w, "/api/replays", range_) })
	}
	both.Wait()
	all := get[ops.Page[ops.ReplayState]](w, "/api/replays").Items
	require.Len(t, all, 2, "both run, one after the other")
	require.Equal(t, 1, all[0].Ahead+all[1].Ahead)
	require.Equal(t, "kim", all[0].AskedBy)

	path := "/api/replays/" + started[0].ID.String()
	require.Equal(t, "cancelled", post[ops.ReplayState](w, path+"/cancel", object{}).State)
	w.refuses(http.StatusConflict, "is cancelled already", "POST", path+"/cancel", object{})
	resumed := post[ops.ReplayState](w, path+"/resume", object{"database": "store"})
	require.Equal(t, []string{"waiting", "kim"}, []string{resumed.State, resumed.ResumedBy})
	shown := get[struct {
		Replay   ops.ReplayState
		Failures []ops.ReplayFailure
	}](w, path)
	require.EqualValues(t, 1, shown.Replay.Events)
	require.Empty(t, get[ops.Page[ops.ReplayState]](w, "/api/replays?database=customers").Items)

	many := make([]uuid.UUID, 40_000)
	for name, c := range map[string]struct {
		status int
		why    string
		body   any
	}{
		"nothing":            {422, "say which events", object{}},
		"backwards":          {422, "the time range runs backwards", object{"since": since, "until": "2020-01-01T00:00:00Z"}},
		"no time":            {422, "cannot parse", object{"since": "yesterday"}},
		"no event":           {422, "the outbox does not hold it", object{"events": []uuid.UUID{uuid.New()}}},
		"no id":              {422, "invalid UUID", object{"events": []string{"x"}}},
		"too many ids":       {413, "restock replay --ids-file", object{"events": many}},
		"a file":             {422, "restock replay --ids-file", object{"idsFile": "/etc/passwd"}},
		"none of these":      {422, "no event is selected", object{"types": []string{schema.TypeOrderPlaced}}},
		"no type":            {422, `no event type is called "x"`, object{"types": []string{"x"}}},
		"a number for a sku": {422, "sku cannot be a number", object{"sku": 1}},
		"an unknown member":  {422, `no member is called "skus"`, object{"skus": "A"}},
		"a list":             {422, "cannot be a array", []string{}},
		"a rate below 0":     {422, "a rate below 0", object{"sku": "A", "rate": -1}},
		"a huge sample":      {422, "sample must be", object{"sku": "A", "sample": 1e6}},
		"no consumer":        {422, `no consumer "cook"`, object{"sku": "A", "consumer": "cook"}},
		"no database":        {409, `no database "x"`, object{"sku": "A", "database": "x"}},
	} {
		for _, path := range []string{"/api/replays", "/api/replays/plan"} {
			t.Run(name, func(*testing.T) { w.refuses(c.status, c.why, "POST", path, c.body) })
		}
	}
	w.refuses(http.StatusNotFound, "no such replay", "GET", "/api/replays/"+uuid.NewString(), nil)
	w.refuses(http.StatusNotFound, "no such replay", "POST", "/api/replays/"+uuid.NewString()+"/resume", object{})
	require.Len(t, get[ops.Page[ops.ReplayState]](w, "/api/replays").Items, 2, "nothing else was started")
}

// TestParked: looked at, sent and skipped, each with who asked.
func TestParked(t *testing.T) {
	w := setup(t)
	a, b := w.park("A"), w.park("B")
	require.Len(t, get[ops.Page[ops.ParkedGroup]](w, "/api/parked").Items, 2)
	require.Equal(t, a.ID, get[ops.Page[ops.ParkedEvent]](w, "/api/parked?group=A").Items[0].EventID)
	require.NotContains(t, get[ops.ParkedDossier](w, "/api/parked/"+a.ID.String()).Body, "sig=secret")
	require.Empty(t, get[ops.Page[ops.ParkedGroup]](w, "/api/parked?database=customers").Items)

	sent := post[ops.SendReport](w, "/api/parked/send", object{"groups": []string{"A"}, "dryRun": true})
	require.Equal(t, 1, sent.Count())
	require.Equal(t, 2, w.count(`parked WHERE state = 'parked'`), "a dry run changes nothing")
	w.refuses(http.StatusUnprocessableEntity, "a reason is needed", "POST", "/api/parked/send", object{"groups": []string{"A"}})
	w.refuses(http.StatusUnprocessableEntity, "at most", "POST", "/api/parked/send", object{"groups": []string{"A"}, "reason": strings.Repeat("x", 1001)})
	w.refuses(http.StatusUnprocessableEntity, "only one of these", "POST", "/api/parked/send", object{"all": true, "groups": []string{"A"}, "reason": "x"})
	post[ops.SendReport](w, "/api/parked/send", object{"groups": []string{"A"}, "reason": "the topic is mended"})
	require.Equal(t, 1, w.count(`parked WHERE state = 'sending' AND asked_by = 'kim' AND event_id = $1`, a.ID))

	w.refuses(http.StatusUnprocessableEntity, "name groups or events", "POST", "/api/parked/skip", object{"all": true, "reason": "x"})
	w.refuses(http.StatusUnprocessableEntity, "a skip has none", "POST", "/api/parked/skip", object{"groups": []string{"B"}, "dryRun": true})
	w.refuses(http.StatusNotFound, "not parked", "POST", "/api/parked/skip", object{"groups": []string{"Z"}, "reason": "x"})
	w.park("C")
	w.refuses(http.StatusConflict, "2 events are parked of it now, and 1 were seen: look again", "POST", "/api/parked/skip", object{"groups": []string{"B", "C"}, "seen": 1, "reason": "x"})
	post[object](w, "/api/parked/skip", object{"events": []uuid.UUID{b.ID}, "reason": "refunded"})
	require.Equal(t, 1, w.count(`parked WHERE state = 'skipped' AND note = 'refunded' AND asked_by = 'kim'`))
	w.refuses(http.StatusNotFound, "not parked", "GET", "/api/parked/"+uuid.NewString(), nil)
	w.stop()
	require.Contains(t, w.log.String(), `"by":"kim","reason":"the topic is mended"`)
}

// TestDeadLetters: looked at, planned and redriven, with an audit line of who and why.
func TestDeadLetters(t *testing.T) {
	w := setup(t)
	e := w.kill("A")
	listed := get[ops.Listing](w, "/api/dlq")
	require.Equal(t, e.ID, listed.Events[0].EventID)
	require.Len(t, listed.Queues, 8)
	require.Len(t, get[ops.Listing](w, "/api/dlq?consumer=ads").Queues, 2)
	require.Equal(t, "factory", get[[]ops.Dossier](w, "/api/dlq/"+e.ID.String())[0].Consumer)
	w.refuses(http.StatusConflict, `no consumer "cook"`, "GET", "/api/dlq?consumer=cook", nil)
	w.refuses(http.StatusNotFound, "in no dead-letter queue", "GET", "/api/dlq/"+uuid.NewString(), nil)

	planned := post[ops.RedriveReport](w, "/api/dlq/redrive", object{"consumers": []string{"factory"}, "dryRun": true})
	require.Equal(t, 1, planned.Count(ops.OutcomePlanned))
	w.refuses(http.StatusUnprocessableEntity, "a reason is needed", "POST", "/api/dlq/redrive", object{"all": true, "reason": " "})
	w.refuses(http.StatusUnprocessableEntity, "say that all are meant", "POST", "/api/dlq/redrive", object{"reason": "x"})
	require.Equal(t, 1, w.count(`inbox WHERE state = 'dead'`))
	done := post[ops.RedriveReport](w, "/api/dlq/redrive", object{"events": []uuid.UUID{e.ID}, "reason": "the key is mended"})
	require.Equal(t, 1, done.Count(ops.OutcomeSent))
	require.Equal(t, 1, w.count(`inbox WHERE state = 'failed' AND attempt = 0`))
	w.stop()
	require.Regexp(t, `"by":"kim","reason":"the key is mended".*"event_id":"`+e.ID.String()+`".*"outcome":"sent"`, w.log.String())
}

// TestReplenishments: one that hangs is listed, asked for again, and cancelled.
func TestReplenishments(t *testing.T) {
	w := setup(t)
	w.exec(w.store, `INSERT INTO products (sku, name, stock, initial_stock, reorder_quantity, factory_id, manager_email) VALUES ('A', 'Donut', 0, 0, 10, 'F', 'm@example.com')`)
	payload := request("A")
	e := w.commit(payload, "published")
	w.exec(w.store, `INSERT INTO replenishments (id, sku, quantity, event_id) VALUES ($1, 'A', 10, $2)`, payload.ReplenishmentID, e.ID)
	require.Equal(t, payload.ReplenishmentID, get[ops.Page[ops.OpenReplenishment]](w, "/api/replenishments").Items[0].ID)
	require.Empty(t, get[ops.Page[ops.OpenReplenishment]](w, "/api/replenishments?openFor=24h").Items)
	w.refuses(http.StatusUnprocessableEntity, "a duration such as 24h", "GET", "/api/replenishments?openFor=long", nil)
	path := "/api/replenishments/" + payload.ReplenishmentID.String()
	w.refuses(http.StatusUnprocessableEntity, "a reason is needed", "POST", path+"/retry", object{})
	post[object](w, path+"/retry", object{"reason": "they lost it"})
	post[object](w, path+"/cancel", object{"reason": "enough"})
	require.Equal(t, 2, w.count(`replenishment_acts WHERE asked_by = 'kim'`))
	for _, act := range []string{"/retry", "/cancel"} {
		w.refuses(http.StatusConflict, "not open any more", "POST", path+act, object{"reason": "x"})
		w.refuses(http.StatusNotFound, "no replenishment has this id", "POST", "/api/replenishments/"+uuid.NewString()+act, object{"reason": "x"})
	}
}

// TestReconcile: the last comparison is there, and a comparison that failed does not
// take it away.
func TestReconcile(t *testing.T) {
	type compared struct {
		Result *ops.Reconciliation
		Error  string
	}
	w := setup(t, func(c *console.Config) {
		var err error
		c.Reconciler, err = ops.NewReconciler(ops.ReconcileConfig{Store: c.Pipeline.Store, Customers: c.Pipeline.Customers, VIPThreshold: 100, Grace: time.Nanosecond})
		require.NoError(t, err)
		c.ReconcileEvery = time.Millisecond
	})
	w.commit(request("A"), "")
	require.Eventually(t, func() bool {
		_, body := w.call("GET", "/api/reconcile", nil)
		return strings.Contains(body, `"missing":1`)
	}, patience, time.Millisecond)
	w.exec(w.store, `ALTER TABLE ledger RENAME TO gone`)
	require.Eventually(t, func() bool { return get[compared](w, "/api/reconcile").Error != "" }, patience, time.Millisecond)
	require.EqualValues(t, 1, get[compared](w, "/api/reconcile").Result.Missing)
	w.refuses(http.StatusInternalServerError, `relation "ledger" does not exist`, "GET", "/api/events", nil)
}

// TestWithoutCustomers: what there is not is said, and the rest works.
func TestWithoutCustomers(t *testing.T) {
	w := setup(t, func(c *console.Config) {
		c.Pipeline.Customers = nil
		c.Status = c.Pipeline.Status(ops.StatusConfig{Sample: time.Millisecond})
	})
	w.refuses(http.StatusConflict, "RESTOCK_CUSTOMERS_DATABASE_URL", "GET", "/api/parked?database=customers", nil)
	w.refuses(http.StatusConflict, "RESTOCK_CUSTOMERS_DATABASE_URL", "GET", "/api/dlq?consumer=vip", nil)
	require.Len(t, get[ops.Listing](w, "/api/dlq").Queues, 4)
	require.Empty(t, get[ops.RecentEvents](w, "/api/events").Items)
}
