package consumers

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/schema"
)

var (
	testID   = uuid.MustParse("01a0b1c2-d3e4-7f56-8901-23456789abcd")
	testSent = time.Date(2026, 3, 4, 23, 59, 59, 0, time.UTC)
	wantVIP  = schema.Interest{Consumer: schema.ConsumerVIP, Types: []string{schema.TypeOrderPlaced}, MinQuantity: 100}
)

func orderBody(quantity string) string {
	return `{"sequence":"0000000000000000007","time":"2026-03-05T00:00:01Z","specversion":"1.0","id":"` + testID.String() + `","source":"/restock/store",` +
		`"type":"order.placed","datacontenttype":"application/json","dataschema":"urn:restock:order.placed:1",` +
		`"data":{"orderId":"` + uuid.NewString() + `","customerId":"c","quantity":` + quantity + `,"lines":[{"sku":"s","quantity":` + quantity + `}]}}`
}

func enveloped(body string, attributes string) string {
	text, _ := json.Marshal(body)
	return `{"Type":"Notification","MessageId":"x","TopicArn":"arn","Message":` + string(text) + `,"MessageAttributes":` + attributes + `}`
}

func TestParseReadsBothForms(t *testing.T) {
	t.Parallel()
	replay := uuid.New()
	body := orderBody("100")
	for name, m := range map[string]message{
		"raw":      {body: body, attributes: map[string]string{"replay": replay.String()}},
		"envelope": {body: enveloped(body, `{"replay":{"Type":"String","Value":"`+replay.String()+`"}}`)},
	} {
		m.sentAt = testSent
		a := parse("q.fifo", wantVIP, m)
		require.NoError(t, a.err, name)
		require.Equal(t, body, string(a.body), "to the byte")
		require.False(t, a.unwanted)
		require.Equal(t, testID, a.eventID)
		require.Equal(t, schema.Replay{ID: replay}, a.replay)
		require.Equal(t, "2026-03-05", a.day.Format(time.DateOnly), "the event's day, not the message's")
		require.IsType(t, schema.OrderPlaced{}, a.payload)
		require.Equal(t, int64(7), a.event.Seq())
	}
}

func TestParseKnowsWhatIsNotWanted(t *testing.T) {
	t.Parallel()
	require.True(t, parse("q", wantVIP, message{body: orderBody("99")}).unwanted)
	require.True(t, parse("q", schema.Interest{Types: []string{schema.TypeCustomerPromoted}}, message{body: orderBody("100")}).unwanted)
	// An event that is wanted and cannot be read is never dropped as unwanted.
	a := parse("q", wantVIP, message{body: orderBody(`"many"`)})
	require.False(t, a.unwanted)
	require.ErrorContains(t, a.err, "decode order.placed")
}

func TestParseSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	for reason, body := range map[string]string{
		"not an event: invalid character":           "hello",
		"not an event: CloudEvents specversion":     `{"some":"json"}`,
		"not an event: no id":                       strings.Replace(orderBody("1"), testID.String(), uuid.Nil.String(), 1),
		"not an event: no time":                     strings.Replace(orderBody("1"), `"time":"2026-03-05T00:00:01Z",`, "", 1),
		`unknown event type "order.eaten"`:          strings.ReplaceAll(orderBody("1"), "order.placed", "order.eaten"),
		`unknown version "urn:restock:order.placed`: strings.ReplaceAll(orderBody("1"), "placed:1", "placed:2"),
		"does not begin with the id of a replay":    enveloped(orderBody("1"), `{"replay":{"Type":"String","Value":"yes"}}`),
		"not an event: json: cannot unmarshal":      `[1,2]`,
		"not an event: unexpected end":              "",
	} {
		m := message{id: "m1", body: body, sentAt: testSent}
		a := parse("q.fifo", wantVIP, m)
		require.ErrorContains(t, a.err, reason)
		require.NotEqual(t, uuid.Nil, a.eventID)
		require.Equal(t, a.eventID, parse("q.fifo", wantVIP, m).eventID, "the same at each delivery")
	}
	// What can be read of the identity is the event's own.
	a := parse("q.fifo", wantVIP, message{id: "m1", body: strings.ReplaceAll(orderBody("1"), "placed:1", "placed:2"), sentAt: testSent})
	require.Equal(t, testID, a.eventID)
	// What cannot is made of the queue and the message.
	a = parse("q.fifo", wantVIP, message{id: "m1", body: "hello", sentAt: testSent})
	require.Equal(t, uuid.Version(5), a.eventID.Version())
	require.Equal(t, "2026-03-04", a.day.Format(time.DateOnly))
	require.NotEqual(t, a.eventID, parse("other.fifo", wantVIP, message{id: "m1", body: "hello"}).eventID)
}

func FuzzParse(f *testing.F) {
	f.Add(orderBody("100"), "")
	f.Add(enveloped(orderBody("100"), "{}"), "x")
	f.Add(enveloped("hello", `{"replay":1}`), uuid.NewString())
	f.Add(`{"Type":"Notification","Message":7}`, "")
	f.Add(`{"type":"Notification","message":"x"}`, "")
	f.Add("\x00\xff", "\x00")
	f.Fuzz(func(t *testing.T, body, replay string) {
		m := message{id: "m1", body: body, sentAt: testSent, attributes: map[string]string{"replay": replay}}
		a := parse("q.fifo", wantVIP, m)
		if a.eventID == uuid.Nil {
			t.Fatal("no identity")
		}
		if a.day.IsZero() || !a.day.Equal(a.day.Truncate(24*time.Hour)) {
			t.Fatalf("%s is no day", a.day)
		}
		if a.err == nil && !a.unwanted && a.payload == nil {
			t.Fatal("a wanted event without payload")
		}
		if a.err != nil && a.unwanted {
			t.Fatal("what cannot be read would be dropped")
		}
	})
}
