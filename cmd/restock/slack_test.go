package main

import (
	"bytes"
	"io"
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

func TestAPISlackens(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("there is no timer slack")
	}
	db, _ := newDatabase(t, store)
	again := slackened + "="
	api := launch(t, []string{again, "RESTOCK_DATABASE_URL=" + db.RoleDSN(schema.RoleAPI, password), "RESTOCK_CALLBACK_SECRETS=0123456789abcdef"}, "api", "--addr", "127.0.0.1:0", "--log-level", "error")
	factory := launch(t, []string{again}, "factory", "--addr", "127.0.0.1:0")
	require.True(t, hasBegunAgain(t, api))
	require.False(t, hasBegunAgain(t, factory))
}

func hasBegunAgain(t *testing.T, p *process) bool {
	t.Helper()
	env, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.cmd.Process.Pid), "environ"))
	require.NoError(t, err)
	return bytes.Contains(env, []byte(service.Slackened))
}
