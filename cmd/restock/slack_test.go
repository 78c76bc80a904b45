package main

import (
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWhatSlackens(t *testing.T) {
	for args, want := range map[string]bool{
		"--log-level debug api --database-url x --public-url x --callback-secrets x": true,
		"relay --database-url x --topic-arn x":                                       false, // it reads a megabyte at once
		"consume ads":                                                                false,
		"load":                                                                       true,
		"load http://127.0.0.1:1 --connections 1":                                    true,
		"load --rate 10":                                                             false, // each is sent when it is due
		"status":                                                                     false,
		"demo":                                                                       false, // it starts others
	} {
		var c cli
		parser, err := newParser(&c, io.Discard, io.Discard, func(int) {})
		require.NoError(t, err)
		kctx, err := parser.Parse(strings.Fields(args))
		require.NoError(t, err, args)
		require.Equal(t, want, c.slackens(kctx.Command()), args)
	}
}
