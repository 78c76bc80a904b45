package consumers

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/sony/gobreaker/v2"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/restock-dev/restock/internal/service"
	"github.com/restock-dev/restock/schema"
)

var errOops = errors.New("oops")

func TestMarksCombine(t *testing.T) {
	t.Parallel()
	err := fmt.Errorf("outer: %w", Uncertain(RetryAfter(fmt.Errorf("inner: %w", Permanent(errOops)), time.Minute)))
	require.ErrorIs(t, err, errOops)
	require.True(t, is(err, uncertain))
	require.True(t, is(err, permanent))
	require.False(t, is(err, unavailable))
	f, ok := marked(err, retryAfter)
	require.True(t, ok)
	require.Equal(t, time.Minute, f.after)
	require.NoError(t, Permanent(nil))
}

func TestCircuit(t *testing.T) {
	t.Parallel()
	never := func(error) bool { return false }
	fail := func(err error) func() (Effect, error) { return func() (Effect, error) { return Effect{}, err } }

	t.Run("opens, probes and closes", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			c := newCircuit("x", 3, time.Minute, func(gobreaker.State) {})
			for range 3 {
				require.Equal(t, gobreaker.StateClosed, c.state())
				_, err := c.call(uuid.New(), never, fail(errOops))
				require.Equal(t, errOops, err)
			}
			require.Equal(t, gobreaker.StateOpen, c.state())
			_, err := c.call(uuid.New(), never, func() (Effect, error) { panic("called") })
			require.ErrorIs(t, err, errNotCalled)
			require.Equal(t, time.Minute, c.untilProbe())
			require.NoError(t, service.Sleep(t.Context(), time.Minute+1))
			require.Equal(t, gobreaker.StateHalfOpen, c.state())
			_, _ = c.call(uuid.New(), never, fail(errOops))
			require.Equal(t, gobreaker.StateOpen, c.state())
			require.NoError(t, service.Sleep(t.Context(), time.Minute+1))
			_, err = c.call(uuid.New(), never, fail(nil))
			require.NoError(t, err)
			require.Equal(t, gobreaker.StateClosed, c.state())
		})
	})
	t.Run("one event that always fails does not open it", func(t *testing.T) {
		t.Parallel()
		c := newCircuit("x", 3, time.Minute, func(gobreaker.State) {})
		id := uuid.New()
		for range 100 {
			_, err := c.call(id, never, fail(errOops))
			require.Equal(t, errOops, err)
		}
		require.Equal(t, gobreaker.StateClosed, c.state())
		for range 3 {
			_, _ = c.call(id, never, fail(Unavailable(errOops)))
		}
		require.Equal(t, gobreaker.StateOpen, c.state(), "but one that finds nobody there does")
	})
	t.Run("a refusal is an answer, a stop is nobody's fault", func(t *testing.T) {
		t.Parallel()
		c := newCircuit("x", 1, time.Minute, func(gobreaker.State) {})
		_, err := c.call(uuid.New(), never, fail(Permanent(errOops)))
		require.True(t, is(err, permanent))
		_, err = c.call(uuid.New(), func(error) bool { return true }, fail(errOops))
		require.Equal(t, errOops, err)
		require.Equal(t, gobreaker.StateClosed, c.state())
	})
	t.Run("keeps the effect of a failure", func(t *testing.T) {
		t.Parallel()
		c := newCircuit("x", 9, time.Minute, func(gobreaker.State) {})
		effect, _ := c.call(uuid.New(), never, func() (Effect, error) { return Effect{Reference: "r"}, errOops })
		require.Equal(t, "r", effect.Reference)
	})
}

func TestSequences(t *testing.T) {
	t.Parallel()
	s := newSequences(2)
	require.False(t, s.handled("a", 5))
	require.False(t, s.handled("a", 9), "gaps belong to other groups")
	require.True(t, s.handled("a", 8))
	require.False(t, s.handled("a", 10))
	require.False(t, s.handled("a", 0), "none is known")
	require.False(t, s.handled("b", 1))
	require.False(t, s.handled("a", 11))
	require.False(t, s.handled("c", 1))
	require.False(t, s.handled("b", 0))
	require.Len(t, s.groups, 2)
	require.NotContains(t, s.groups, "b", "the least recent goes")
}

func TestCleanTextFitsPostgres(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := clean(string(rapid.SliceOfN(rapid.Byte(), 0, 3*maxText).Draw(t, "s")))
		if len(s) > maxText || !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
			t.Fatalf("%q", s)
		}
	})
	require.Equal(t, "재고", clean("재고"))
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for header, want := range map[string]time.Duration{
		"":                              0,
		"7":                             7 * time.Second,
		"0":                             0,
		"-3":                            0,
		"soon":                          0,
		"99999999999999999999":          maxRetryAfter,
		"86400":                         maxRetryAfter,
		"Fri, 02 Jan 2026 03:05:05 GMT": time.Minute,
		"Fri, 02 Jan 2026 03:00:00 GMT": 0,
		"Sat, 03 Jan 2099 03:00:00 GMT": maxRetryAfter,
	} {
		require.Equal(t, want, retryAfterOf(header, now), header)
	}
}

func TestRefusalMeansWhatItSays(t *testing.T) {
	t.Parallel()
	for code, want := range map[int]string{
		301: "retry", 302: "retry", 400: "permanent", 401: "permanent", 404: "permanent", 408: "retry", 409: "permanent",
		422: "permanent", 425: "retry", 429: "after", 500: "retry", 502: "retry", 503: "after", 504: "retry",
	} {
		err := refusal("the factory", answer{status: code, header: http.Header{"Retry-After": {"9"}}, body: []byte("no\nfor a@b.example")})
		_, after := marked(err, retryAfter)
		got := map[bool]string{true: "permanent", false: "retry"}[is(err, permanent)]
		if after {
			got = "after"
		}
		require.Equal(t, want, got, code)
		require.Contains(t, err.Error(), ": no for (mail address)")
	}
}

func TestRedact(t *testing.T) {
	t.Parallel()
	require.Equal(t, `{"r":"(mail address)","c":"http://s/x?sig=redacted&a=1"} (mail address)`,
		redact(`{"r":"a.b+c@example.com","c":"http://s/x?sig=abc123&a=1"} x@y`))
	for _, echo := range []string{ // as escaped by Gson, by a form, by Handlebars, by others
		`{"c":"http://s/x?a=1\u0026sig\u003dabc123\u003d"}`, "c=http%3A%2F%2Fs%2Fx%3Fsig%3Dabc123&r=a", "http://s/x?sig&#x3D;abc123", "http://s/x?sig&#61;abc123",
	} {
		require.NotContains(t, redact(echo), "abc123")
		require.Contains(t, redact(echo), "sig=redacted")
	}
	require.Equal(t, "r=(mail address)", redact("r=a.b%40example.com"))
	require.Equal(t, `the key "whsec_redacted" is old`, redact(`the key "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" is old`))
}

func TestVisibilityIsWholeSecondsRoundedUp(t *testing.T) {
	t.Parallel()
	require.Equal(t, int32(0), wholeSeconds(-time.Hour))
	require.Equal(t, int32(0), wholeSeconds(0))
	require.Equal(t, int32(1), wholeSeconds(1))
	require.Equal(t, int32(60), wholeSeconds(time.Minute))
}

// An outage as long as SQS keeps a message must not use up the receives after
// which SQS itself moves it away.
func TestOutageDelaysOutlastRetention(t *testing.T) {
	t.Parallel()
	var least time.Duration
	for n := 1; n < schema.MaxReceiveCount; n++ {
		d := outageDelay(message{receiveCount: n})
		require.LessOrEqual(t, d, outageMax)
		least += d
	}
	require.Greater(t, least, 10*24*time.Hour)
}

// model is a FIFO queue of one group with a worker: what the group's order must be,
// whatever fails.
func TestGroupRunnerKeepsOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 25).Draw(t, "messages")
		// fails is how often each message fails before it is through.
		fails := rapid.SliceOfN(rapid.IntRange(0, 3), n, n).Draw(t, "fails")
		queue := make([]int, n)
		for i := range queue {
			queue[i] = i
		}
		attempts := make([]int, n)
		var done []int
		for len(queue) > 0 {
			batch := queue[:rapid.IntRange(1, min(len(queue), maxBatch)).Draw(t, "batch")]
			before := append([]int(nil), attempts...)
			back, delay := runGroup(batch, func(m int) (time.Duration, bool) {
				attempts[m]++
				if attempts[m] <= fails[m] {
					return time.Duration(attempts[m]), false
				}
				done = append(done, m)
				return 0, true
			})
			if len(back) > 0 {
				head := back[0]
				if attempts[head] != before[head]+1 || delay != time.Duration(attempts[head]) {
					t.Fatalf("the head waits %d after attempt %d", delay, attempts[head])
				}
				for _, m := range back[1:] {
					if attempts[m] != before[m] {
						t.Fatalf("message %d behind the failing %d burned an attempt", m, head)
					}
				}
			}
			queue = queue[len(batch)-len(back):]
		}
		for i, m := range done {
			if i != m {
				t.Fatalf("handled out of order: %v", done)
			}
		}
		if len(done) != n {
			t.Fatalf("handled %d of %d", len(done), n)
		}
	})
}

func TestByGroupKeepsOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		type m struct {
			group string
			n     int
		}
		var all []m
		for i, g := range rapid.SliceOf(rapid.SampledFrom([]string{"a", "b", "c"})).Draw(t, "groups") {
			all = append(all, m{g, i})
		}
		seen := make(map[string]bool)
		count := 0
		for _, group := range byGroup(all, func(x m) string { return x.group }) {
			if seen[group[0].group] {
				t.Fatal("a group in two parts")
			}
			seen[group[0].group] = true
			count += len(group)
			for i := range group {
				if group[i].group != group[0].group || i > 0 && group[i].n < group[i-1].n {
					t.Fatalf("%v", group)
				}
			}
		}
		if count != len(all) {
			t.Fatalf("%d of %d", count, len(all))
		}
	})
}
