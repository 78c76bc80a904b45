package localaws_test

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/localaws"
)

// conformance is what the stand-in and the services have in common. It is written against the SDK, and the relay's use of it.
func conformance() map[string]func(t T, e *env) {
	suite := make(map[string]func(t T, e *env))
	for _, part := range []map[string]func(t T, e *env){topicSuite(), publishSuite(), filterSuite(), queueSuite(), redriveSuite(), mailSuite()} {
		for name, test := range part {
			suite[name] = test
		}
	}
	return suite
}

// TestConformance runs against the stand-in, or against the endpoint in RESTOCK_CONFORMANCE_ENDPOINT ("aws" for AWS
// itself) with region and credentials from AWS_*.
func TestConformance(t *testing.T) {
	endpoint := os.Getenv("RESTOCK_CONFORMANCE_ENDPOINT")
	if endpoint == "" {
		server, err := localaws.Start(localaws.Config{})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, server.Close()) })
		runConformance(t, target{cfg: server.AWSConfig(), prompt: true}, nil)
		return
	}
	cfg, err := config.LoadDefaultConfig(t.Context())
	require.NoError(t, err)
	if endpoint != "aws" {
		cfg.BaseEndpoint = aws.String(endpoint)
	}
	runConformance(t, target{cfg: cfg}, nil)
}

// TestConformanceOfMoto keeps the suite honest: another implementation of the services must pass it too, except where
// it is known to differ. A difference that is gone fails the test.
func TestConformanceOfMoto(t *testing.T) {
	endpoint := startMoto(t)
	if endpoint == "" {
		t.Log("moto_server is not on PATH or does not start: its conformance run is left out")
		return
	}
	runConformance(t, target{cfg: aws.Config{
		Region: "ap-northeast-2", BaseEndpoint: aws.String(endpoint),
		Credentials: credentials.NewStaticCredentialsProvider("moto", "moto", ""),
		Retryer:     func() aws.Retryer { return aws.NopRetryer{} },
	}, prompt: true, patience: 1}, motoDiffers())
}

// tooSlow begins the reason of a difference that shows only after a long wait: such a test is not run.
const tooSlow = "after a long wait: "

func runConformance(t *testing.T, to target, differs map[string]string) {
	for name, test := range conformance() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reason, known := differs[name]
			if !known {
				test(t, newEnv(t, to))
				return
			}
			if strings.HasPrefix(reason, tooSlow) {
				t.Skip(reason)
			}
			if passes(t, func(p T) { test(p, newEnv(p, to)) }) {
				t.Errorf("no longer differs: %s", reason)
			}
		})
	}
}

var motoRunning = regexp.MustCompile(`Running on (http://127\.0\.0\.1:\d+)`)

// startMoto returns the endpoint of a moto server of its own, empty if there can be none.
func startMoto(t *testing.T) string {
	path, err := exec.LookPath("moto_server")
	if err != nil {
		return ""
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	cmd := exec.CommandContext(ctx, path, "-H", "127.0.0.1", "-p", "0")
	stderr, err := cmd.StderrPipe()
	if err != nil || cmd.Start() != nil {
		cancel()
		return ""
	}
	drained := make(chan struct{})
	endpoint := make(chan string, 1)
	go func() {
		defer close(drained)
		defer close(endpoint)
		found := false
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			if m := motoRunning.FindStringSubmatch(lines.Text()); m != nil && !found {
				found = true
				endpoint <- m[1]
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-drained
		_ = cmd.Wait() // it was killed
	})
	return <-endpoint
}

// T is what a conformance test may use of *testing.T.
type T interface {
	require.TestingT
	Helper()
	Cleanup(func())
	Context() context.Context
}

// probe is a T whose failure is a finding rather than a failure.
type probe struct {
	t        *testing.T
	failed   bool
	cleanups []func()
}

func (p *probe) Helper()                  {}
func (p *probe) Context() context.Context { return p.t.Context() }
func (p *probe) Cleanup(f func())         { p.cleanups = append(p.cleanups, f) }

func (p *probe) Errorf(format string, args ...any) {
	p.failed = true
	p.t.Logf("differs as known: "+format, args...)
}

func (p *probe) FailNow() {
	p.failed = true
	runtime.Goexit()
}

// passes runs a test that is expected to fail.
func passes(t *testing.T, test func(T)) bool {
	p := &probe{t: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			for i := len(p.cleanups) - 1; i >= 0; i-- {
				p.cleanups[i]()
			}
		}()
		test(p)
	}()
	<-done
	return !p.failed
}
