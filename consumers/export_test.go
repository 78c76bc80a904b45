package consumers

import "time"

// SetRenewTick makes the worker renew at every tick of the test's, and no other.
func (w *Worker) SetRenewTick(tick <-chan time.Time) { w.renewTick = tick }
