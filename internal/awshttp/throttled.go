package awshttp

import (
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
)

// Throttled tells whether an error code asks for less: what the SDK's retries go by, and
// what services name after their own resources, as SNS does with those of KMS.
// https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html
func Throttled(code string) bool {
	_, known := retry.DefaultThrottleErrorCodes[code]
	return known || strings.Contains(strings.ToLower(code), "throttl")
}
