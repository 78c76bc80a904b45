package localaws

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestNames(t *testing.T) {
	t.Parallel()
	long := func(n int) string { return strings.Repeat("n", n) }
	for name, want := range map[string]bool{
		"": false, "a": true, "-_aZ9": true, "a b": false, "a.b": false, "é": false, "a\n": false,
		fifoSuffix: false, "a" + fifoSuffix: true, "a" + fifoSuffix + fifoSuffix: false, fifoSuffix + "a": false,
		long(80): true, long(81): false, long(75) + fifoSuffix: true, long(76) + fifoSuffix: false,
	} {
		require.Equal(t, want, isName(name, mostQueueName), name)
		require.Equal(t, want && !isFIFO(name), isBatchID(name), name)
	}
	for name, want := range map[string]bool{
		long(256): true, long(257): false, long(251) + fifoSuffix: true, long(252) + fifoSuffix: false,
	} {
		require.Equal(t, want, isName(name, mostTopicName), name)
	}
}
