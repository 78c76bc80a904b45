package service_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/service"
)

var errBroken = errors.New("broken")

// untilStopped is a part that ends only when it is asked to.
func untilStopped(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func ends(err error) func(context.Context) error {
	return func(context.Context) error { return err }
}

func TestRunReturnsTheErrorThatStartedTheStop(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		parts []func(context.Context) error
		want  error
	}{
		"no parts":                    {},
		"a part fails":                {[]func(context.Context) error{untilStopped, ends(errBroken), untilStopped}, errBroken},
		"a part ends without error":   {[]func(context.Context) error{untilStopped, ends(nil)}, nil},
		"a part wraps the stop":       {[]func(context.Context) error{ends(nil), func(ctx context.Context) error { return fmt.Errorf("read: %w", untilStopped(ctx)) }}, nil},
		"a part fails while stopping": {[]func(context.Context) error{ends(nil), func(ctx context.Context) error { <-ctx.Done(); return errBroken }}, errBroken},
		"cancelled, but not by us":    {[]func(context.Context) error{untilStopped, ends(context.Canceled)}, context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := service.Run(t.Context(), test.parts...)
			if test.want == nil {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, test.want)
		})
	}
}

func TestRunStopsWhenAsked(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	asked := errors.New("signal")
	withCause := func(ctx context.Context) error {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	stop := func(ctx context.Context) error {
		cancel(asked)
		return untilStopped(ctx)
	}
	require.NoError(t, service.Run(ctx, untilStopped, withCause, stop))
}

func TestRunAwaitsEveryPart(t *testing.T) {
	t.Parallel()
	finished := false
	slow := func(ctx context.Context) error {
		<-ctx.Done()
		finished = true // the race detector tells whether Run waited
		return nil
	}
	require.ErrorIs(t, service.Run(t.Context(), slow, ends(errBroken)), errBroken)
	require.True(t, finished)
}
