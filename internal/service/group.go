package service

import (
	"context"
	"errors"
	"sync"
)

// Run runs the parts together until the first of them ends or ctx does, then
// cancels the context that all of them share and waits for every one.
//
// It returns the first real error in order of time. A part that answers the stop
// with the context's own error stopped as asked: that is not an error. A part that
// ends without an error while the others run is a normal end of the group.
func Run(ctx context.Context, parts ...func(context.Context) error) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()

	var (
		wg    sync.WaitGroup
		once  sync.Once
		first error
	)
	for _, part := range parts {
		wg.Go(func() {
			err := part(ctx)
			if err != nil && !stoppedAsAsked(ctx, err) {
				once.Do(func() { first = err })
			}
			stop()
		})
	}
	wg.Wait()
	return first
}

// stoppedAsAsked tells an answer to our own stop from a context.Canceled that
// comes from elsewhere while we are running, which is a failure like any other.
func stoppedAsAsked(ctx context.Context, err error) bool {
	return ctx.Err() != nil && (errors.Is(err, ctx.Err()) || errors.Is(err, context.Cause(ctx)))
}
