package main

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/service"
)

func TestWhatSlackens(t *testing.T) {
	for args, want := range map[string]bool{
		"--log-level debug api --database-url x --public-url x --callback-secrets x": true,
		"relay --database-url x --topic-arn x":                                       true,
		"consume ads":                                                                false,
		"load":                                                                       true,
		"load http://127.0.0.1:1 --connections 1":                                    true,
		"load --rate 10":                                                             false, // each is sent when it is due
		"status":                                                                     false,
		"demo":                                                                       false, // it starts others
	} {
		var c cli
		parser, err := newParser(&c, nil, io.Discard, io.Discard, func(int) {})
		require.NoError(t, err)
		kctx, err := parser.Parse(strings.Fields(args))
		require.NoError(t, err, args)
		require.Equal(t, want, c.slackens(kctx.Command()), args)
		if want {
			require.True(t, maySlacken(kctx.Args), args)
		}
	}
}

// TestBeginsAgain: an API and a relay do, and are what they were; a pretend factory does not.
func TestBeginsAgain(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("there is no timer slack")
	}
	s := newStack(t)
	for _, p := range []*process{s.api, s.relay, s.factory} {
		p.env = append(p.env, service.SlackenedName+"=")
		p.restart()
	}
	require.True(t, hasBegunAgain(t, s.api))
	require.True(t, hasBegunAgain(t, s.relay))
	require.False(t, hasBegunAgain(t, s.factory))
	s.sell(1, 10, "A")
	require.Equal(t, http.StatusOK, s.checkout(http.DefaultClient, "A", ""))
	s.eventually("its events are published", func() bool { return s.count(`ledger WHERE outcome = 'published'`) == s.count(`outbox`) })
}

func hasBegunAgain(t *testing.T, p *process) bool {
	t.Helper()
	env, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid), "environ"))
	require.NoError(t, err)
	return bytes.Contains(env, []byte(service.Slackened))
}
