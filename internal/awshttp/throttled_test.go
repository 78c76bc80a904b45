package awshttp_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/awshttp"
)

func TestThrottled(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"Throttled", "Throttling", "ThrottlingException", "KMSThrottling", "KMSThrottlingException", "RequestThrottled", "AWS.SimpleQueueService.ThrottlingException", "TooManyRequestsException", "RequestLimitExceeded", "SlowDown"} {
		require.True(t, awshttp.Throttled(code), code)
	}
	for _, code := range []string{"", "InternalError", "ReceiptHandleIsInvalid", "MessageRejected", "AuthorizationError"} {
		require.False(t, awshttp.Throttled(code), code)
	}
}
