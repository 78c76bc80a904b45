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
	"github.com/restock-dev/restock/schema"
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
	db, pool := newDatabase(t, store)
	again := slackened + "="
	s := &stack{t: t, ctx: t.Context(), db: db, pool: pool, aws: launch(t, nil, "localaws", "--addr", "127.0.0.1:0")}
	s.clients()
	api := launch(t, []string{again, "RESTOCK_DATABASE_URL=" + db.RoleDSN(schema.RoleAPI, password), "RESTOCK_CALLBACK_SECRETS=0123456789abcdef"}, "api", "--addr", "127.0.0.1:0", "--log-level", "error")
	relay := launch(t, []string{
		again, "RESTOCK_DATABASE_URL=" + db.RoleDSN(schema.RoleRelay, password), "RESTOCK_TOPIC_ARN=" + s.topic,
		"AWS_ENDPOINT_URL=" + s.aws.endpoints["aws"], "AWS_REGION=ap-northeast-2", "AWS_ACCESS_KEY_ID=local", "AWS_SECRET_ACCESS_KEY=local",
	}, "relay")
	factory := launch(t, []string{again}, "factory", "--addr", "127.0.0.1:0")
	require.True(t, hasBegunAgain(t, api))
	require.True(t, hasBegunAgain(t, relay))
	require.False(t, hasBegunAgain(t, factory))
	s.sell(1, 10, "A")
	s.apiURL = api.endpoints["api"]
	require.Equal(t, http.StatusOK, s.checkout(http.DefaultClient, "A", ""))
	s.eventually("its events are published", func() bool { return s.count(`ledger WHERE outcome = 'published'`) == s.count(`outbox`) })
}

func hasBegunAgain(t *testing.T, p *process) bool {
	t.Helper()
	env, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid), "environ"))
	require.NoError(t, err)
	return bytes.Contains(env, []byte(service.Slackened))
}
