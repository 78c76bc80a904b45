package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/restock-dev/restock/internal/localpg/pgtest"
)

// binary is the program under test, built once.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "restock-bin-*")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "restock")
	build := exec.Command("go", "build", "-o", binary, ".")
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		panic(err)
	}
	code := pgtest.Main(m)
	_ = os.RemoveAll(dir)
	os.Exit(code)
}
