package main

import (
	"errors"
	"os"
	"testing"

	"github.com/restock-dev/restock/internal/localpg/pgtest"
	"github.com/restock-dev/restock/internal/service"
)

// binary is the program under test: this test binary, which is the program where
// asProgram says so. It is built already, with the race detector where the tests are.
var binary string

const asProgram = "RESTOCK_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	var err error
	if binary, err = os.Executable(); err != nil {
		panic(err)
	}
	// Programs under test begin once, since with the race detector that takes half a second.
	if err := errors.Join(os.Setenv(asProgram, "yes"), os.Setenv(service.SlackenedName, "1")); err != nil {
		panic(err)
	}
	os.Exit(pgtest.Main(m))
}
