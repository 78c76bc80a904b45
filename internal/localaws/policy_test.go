package localaws

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPolicyAllowsTopic(t *testing.T) {
	t.Parallel()
	const topic, queue = "arn:aws:sns:r:000000000000:t.fifo", "arn:aws:sqs:r:000000000000:q.fifo"
	statement := func(rest string) string {
		return `{"Statement":[{"Effect":"Allow","Resource":"` + queue + `",` + rest + `}]}`
	}
	const sns, send = `"Principal":{"Service":"sns.amazonaws.com"}`, `"Action":"sqs:SendMessage"`
	for _, c := range []struct {
		name, policy string
		want         bool
	}{
		{"service", statement(sns + `,` + send), true},
		{"another service", statement(`"Principal":{"Service":"events.amazonaws.com"},` + send), false},
		{"everyone", statement(`"Principal":"*",` + send), true},
		{"every account", statement(`"Principal":{"AWS":["*"]},"Action":["SQS:*"]`), true},
		{"one account", statement(`"Principal":{"AWS":"arn:aws:iam::1:root"},` + send), false},
		{"another action", statement(sns + `,"Action":"sqs:ReceiveMessage"`), false},
		{"this topic", statement(sns + `,` + send + `,"Condition":{"ArnEquals":{"aws:SourceArn":"` + topic + `"}}`), true},
		{"topics like it", statement(sns + `,` + send + `,"Condition":{"ArnLike":{"AWS:SourceArn":["x","arn:aws:sns:*:t.*"]}}`), true},
		{"no wildcards in StringEquals", statement(sns + `,` + send + `,"Condition":{"StringEquals":{"aws:SourceArn":"arn:*"}}`), false},
		{"this account", statement(sns + `,` + send + `,"Condition":{"StringEquals":{"aws:SourceAccount":"000000000000"}}`), true},
		{"both conditions", statement(sns + `,` + send + `,"Condition":{"StringEquals":{"aws:SourceAccount":"1"},"ArnLike":{"aws:SourceArn":"*"}}`), false},
		{"unknown condition", statement(sns + `,` + send + `,"Condition":{"Bool":{"aws:SecureTransport":"false"}}`), false},
		{"another queue", `{"Statement":{"Effect":"Allow","Resource":"` + queue + `2",` + sns + `,` + send + `}}`, false},
		{"denied", `{"Statement":[{"Effect":"Allow","Resource":"*","Principal":"*","Action":"*"},{"Effect":"Deny","Resource":"*","Principal":"*","Action":"sqs:Send*"}]}`, false},
		{"denial of others", `{"Statement":[{"Effect":"Allow","Resource":"*","Principal":"*","Action":"*"},{"Effect":"Deny","Resource":"*","Principal":"*","Action":"sqs:Delete*"}]}`, true},
		{"denial not understood", `{"Statement":[{"Effect":"Allow","Resource":"*","Principal":"*","Action":"*"},{"Effect":"Deny","Resource":"*","NotPrincipal":"*","Action":"*"}]}`, false},
	} {
		p, err := parsePolicy(c.policy)
		require.NoError(t, err, c.name)
		require.Equal(t, c.want, p.allowsTopic(topic, queue), c.name)
	}
	require.False(t, (*policy)(nil).allowsTopic(topic, queue), "no policy")
}

func TestPolicyRefused(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{
		`x`, `{}`, `{"Statement":[]}`, `{"Statement":"x"}`, `{"Version":"2020-01-01","Statement":[{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}]}`,
		`{"Statement":{"Effect":"Maybe","Principal":"*","Action":"*","Resource":"*"}}`, `{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`,
		`{"Statement":{"Effect":"Allow","Principal":"*","Resource":"*"}}`, `{"Statement":{"Effect":"Allow","Principal":"*","Action":7,"Resource":"*"}}`,
	} {
		_, err := parsePolicy(raw)
		require.Error(t, err, raw)
	}
}

func TestWildcardMatch(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern, s string
		want       bool
	}{
		{"", "", true}, {"*", "", true}, {"a*c", "abbc", true}, {"a?c", "ac", false}, {"*b*b", "abab", true}, {"a", "ab", false}, {"**", "x", true},
	} {
		require.Equal(t, c.want, wildcardMatch(c.pattern, c.s), "%q on %q", c.pattern, c.s)
	}
}
