package main

import (
	"net/netip"
	"os/exec"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/consumers"
	"github.com/restock-dev/restock/schema"
)

const (
	oldSecret = "whsec_dGhlIHNlY3JldCB0aGF0IHdhcyB1c2VkIHNvIGZhcg=="
	newSecret = "whsec_dGhlIHNlY3JldCB0aGF0IGNvbWVzIGFmdGVyIGl0"
)

func TestMarketingTakesWebhooks(t *testing.T) {
	t.Parallel()
	p := launch(t, []string{"RESTOCK_MARKETING_SECRETS=" + oldSecret + "," + newSecret}, "marketing", "--addr", "127.0.0.1:0")
	payload := schema.CustomerPromoted{CustomerID: "c-42", OrderID: uuid.New(), Quantity: 100}
	e, err := schema.New(schema.NewID(), payload, "")
	require.NoError(t, err)
	body := []byte(`{"time":"2026-03-05T00:00:01Z",` + e.Body[1:])
	envelope, err := schema.Decode(body)
	require.NoError(t, err)
	for _, secret := range []string{oldSecret, newSecret} {
		m, err := consumers.NewMarketing(consumers.MarketingConfig{
			URL: p.endpoints["marketing"] + "/webhooks", Secrets: []string{secret}, AllowedPrefixes: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		})
		require.NoError(t, err)
		effect, err := m.Handle(t.Context(), consumers.Delivery{Event: envelope, Payload: payload, Body: body})
		require.NoError(t, err)
		require.Equal(t, "200/"+e.ID.String(), effect.Reference)
		m.Close()
	}
	require.Zero(t, p.stop())
	require.NotContains(t, p.log.tail(), "c-42")
}

func TestMarketingNeedsASecret(t *testing.T) {
	t.Parallel()
	for reason, args := range map[string][]string{
		"missing flags: --secret": {"marketing", "--addr", "127.0.0.1:0"},
		"secret 1: want whsec_":   {"marketing", "--addr", "127.0.0.1:0", "--secret", "hidden"},
	} {
		out, err := exec.Command(binary, args...).CombinedOutput()
		var exit *exec.ExitError
		require.ErrorAs(t, err, &exit)
		require.Equal(t, 2, exit.ExitCode())
		require.Contains(t, string(out), reason)
		require.NotContains(t, string(out), "hidden")
	}
}
