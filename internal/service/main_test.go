package service_test

import (
	"testing"

	"go.uber.org/goleak"

	_ "github.com/restock-dev/restock/internal/pinned" // property tests
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
