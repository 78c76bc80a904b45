package relay

import (
	"time"

	"github.com/restock-dev/restock/internal/service"
)

// testBackoff is short, and exactly its ceiling.
var testBackoff = service.Backoff{Initial: time.Second, Max: time.Minute, Rand: func() float64 { return 1 }}
