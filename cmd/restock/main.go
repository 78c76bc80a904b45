// Command restock runs every part of Restock and the tools to operate it. It
// holds flags, signals and wiring; what the parts do is in their packages.
//
// Exit codes: 0 when all went well, or a signal stopped in order what has no other
// end, 1 when the work failed or was stopped before its end, 2 when it could not begin:
// a wrong flag, a taken port, a database that is not there or that a part refuses to
// work on.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"reflect"
	"strconv"
	"strings"
	"syscall"
	_ "time/tzdata" // where the system has no time zones, as in a container of this program alone

	"github.com/alecthomas/kong"
	_ "golang.org/x/crypto/x509roots/fallback" // nor certificate authorities

	"github.com/restock-dev/restock/internal/localpg"
	"github.com/restock-dev/restock/internal/ops"
	"github.com/restock-dev/restock/relay"
	"github.com/restock-dev/restock/schema"
)

func main() {
	slacken(os.Args[1:], os.Environ())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal ends a stop that takes too long: the default action is back.
	context.AfterFunc(ctx, stop)
	// A reader that is gone, as head is after ten lines, fails the write and kills nobody
	// amid what he does. Notify and not Ignore: what is started here does not inherit it.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is main with all that it touches given to it.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var c cli
	exited, code := false, 0
	parser, err := newParser(&c, args, stdout, stderr, func(status int) { exited, code = true, status })
	if err != nil {
		return fail(stderr, err)
	}
	kctx, err := parser.Parse(args)
	if exited { // help was asked for
		return code
	}
	if err != nil {
		return fail(stderr, &setupError{fmt.Errorf("%w; restock -h shows all commands, restock COMMAND -h all flags", err)})
	}
	err = kctx.Run(&invocation{Context: ctx, stdout: stdout, stderr: stderr, log: c.Log.logger(stderr)})
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		if c.goesOn(kctx.Command()) {
			return 0 // told to stop before it had begun
		}
		err = fmt.Errorf("stopped before its end: %w", err)
	}
	return fail(stderr, err)
}

// goesOn tells whether a command has no end but the signal: of any other, one that was
// stopped is not done, and who waits for it must not go on.
func (c *cli) goesOn(command string) bool {
	switch name, _, _ := strings.Cut(command, " "); name {
	case "api", "relay", "consume", "localaws", "factory", "marketing", "admin":
		return true
	case "demo":
		return !c.Demo.Once
	case "maintain":
		return c.Maintain.Every > 0
	case "status":
		return c.Status.Watch
	case "reconcile":
		return c.Reconcile.Every > 0
	}
	return false
}

// newParser reads command lines into c that begin with the command that args do, or all where that
// is none: to learn the flags of all commands takes a quarter of a program's start.
func newParser(c *cli, args []string, stdout, stderr io.Writer, exit func(int)) (*kong.Kong, error) {
	options := []kong.Option{
		kong.Name("restock"),
		kong.Description("An outbox pipeline for a shop: checkout, relay, consumers. Flags may be given as environment variables too; each flag names its own."),
		kong.Writers(stdout, stderr),
		named(map[string]string{
			"datadir": localpg.DefaultDir(), "consumers": strings.Join(consumerNames(), ","), "drills": strings.Join(drillNames(), ","),
			"vipthreshold": strconv.Itoa(schema.DefaultVIPThreshold),
			"replayrate":   strconv.Itoa(ops.DefaultRate), "replaysample": strconv.Itoa(ops.DefaultSample),
			"page": strconv.Itoa(ops.DefaultPage), "maxpage": strconv.Itoa(ops.MaxPage),
		}),
		kong.Exit(exit),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, FlagsLast: true}),
	}
	for _, field := range others(args) {
		options = append(options, kong.IgnoreFields(`^cli\.`+field+`$`))
	}
	return kong.New(c, options...)
}

// others are the fields of cli that are another command than the one that args begin with, and
// none where args begin with something else.
func others(args []string) (fields []string) {
	found := false
	for field := range reflect.TypeFor[cli]().Fields() {
		if _, is := field.Tag.Lookup("cmd"); !is {
			continue
		}
		if len(args) > 0 && args[0] == cmp.Or(field.Tag.Get("name"), strings.ToLower(field.Name)) {
			found = true
		} else {
			fields = append(fields, field.Name)
		}
	}
	if !found {
		return nil
	}
	return fields
}

// named puts values where the flags' tags have their names, as ${name}. As kong's own variables
// each would be searched for the others once for each flag, which is an eighth of a program's start.
func named(values map[string]string) kong.Option {
	var pairs []string
	for name, value := range values {
		pairs = append(pairs, "${"+name+"}", strings.ReplaceAll(value, "$", "$$")) // which kong takes for one
	}
	names := strings.NewReplacer(pairs...)
	return kong.PostBuild(func(k *kong.Kong) error {
		return kong.Visit(k.Model.Node, func(part kong.Visitable, next kong.Next) error {
			if value, ok := part.(*kong.Value); ok {
				value.Default, value.Enum, value.Help = names.Replace(value.Default), names.Replace(value.Enum), names.Replace(value.Help)
			}
			return next(nil)
		})
	})
}

// invocation is what every command runs with.
type invocation struct {
	context.Context //nolint:containedctx // it lives as long as the command that it is passed to
	stdout, stderr  io.Writer
	log             logger
}

// setupError is why the work could not begin.
type setupError struct{ err error }

func (e *setupError) Error() string { return e.err.Error() }
func (e *setupError) Unwrap() error { return e.err }

// fail prints err as one line and returns the exit code that it means.
func fail(stderr io.Writer, err error) int {
	if err == nil {
		return 0
	}
	if readerIsGone(err) {
		return 1
	}
	// It is no answer to what was asked: whoever is told that there is no such event goes
	// on, and must not be told so by a database that nobody migrated.
	if mend := schema.Mend(err); mend != "" {
		err = &setupError{fmt.Errorf("%w: %s", err, mend)}
	}
	fmt.Fprintln(stderr, "restock:", strings.Join(strings.Fields(err.Error()), " "))
	var setup *setupError
	var refused *relay.RefusedError
	var unreachable *ops.UnreachableError
	if errors.As(err, &setup) || errors.As(err, &refused) || errors.As(err, &unreachable) || errors.Is(err, ops.ErrCursor) {
		return 2
	}
	return 1
}

// readerIsGone tells that whoever reads what is printed has had enough, and nothing else: of
// what is joined to that something is to be said still.
func readerIsGone(err error) bool {
	for ; err != nil; err = errors.Unwrap(err) {
		if path, ok := err.(*fs.PathError); ok { //nolint:errorlint // As would find it beside others
			return path.Path == os.Stdout.Name() && errors.Is(path.Err, syscall.EPIPE)
		}
	}
	return false
}
