package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// slowPath is where the stub takes serviceTime to answer. At countedPath it does too, and
// accepts as many as there are, not batchSize.
const (
	slowPath    = "/slow/"
	countedPath = "/counted/"
	serviceTime = 10 * time.Millisecond
)

// serveStub answers PublishBatch in a process of its own, so that what it costs is not
// the client's. It prints its address, and ends when whoever started it does.
func serveStub(ctx context.Context) error {
	// A thread that naps keeps its place to run Go code until the runtime notices, which
	// it may do 10 ms later: with as many places as naps nobody waits for one.
	runtime.GOMAXPROCS(2 * mostInFlight)
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println("http://" + ln.Addr().String())
	var answers [batchSize + 1][]byte
	for n := range answers {
		answers[n] = []byte(allAccepted(n))
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := batchSize
		if strings.HasPrefix(r.URL.Path, countedPath) {
			request, _ := io.ReadAll(r.Body)
			n = bytes.Count(request, []byte(".MessageDeduplicationId="))
		} else {
			_, _ = io.Copy(io.Discard, r.Body)
		}
		if r.URL.Path != "/" {
			nap(serviceTime)
		}
		w.Header().Set("Content-Type", "text/xml")
		_, _ = w.Write(answers[n])
	})}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = server.Close() // nobody is waiting for an answer
	}()
	if err := server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// allAccepted is what SNS answers when it has accepted a batch of n.
func allAccepted(n int) string {
	var b strings.Builder
	b.WriteString("<PublishBatchResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\">\n  <PublishBatchResult>\n    <Failed/>\n    <Successful>\n")
	for i := range n {
		fmt.Fprintf(&b, "      <member>\n        <Id>%d</Id>\n        <MessageId>01938f5e-0000-7000-8000-%012d</MessageId>\n"+
			"        <SequenceNumber>%020d</SequenceNumber>\n      </member>\n", i, i, i)
	}
	b.WriteString("    </Successful>\n  </PublishBatchResult>\n  <ResponseMetadata>\n    <RequestId>9cc4c7a9-0000-5000-8000-9b3c6d1f0000</RequestId>\n  </ResponseMetadata>\n</PublishBatchResponse>\n")
	return b.String()
}

// startStub runs this program as the stub and returns its address.
func startStub(ctx context.Context) (address string, stop func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return "", nil, err
	}
	cmd := exec.CommandContext(ctx, self, "--stub") //nolint:gosec // it is this program
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return "", nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	stop = func() {
		stdin.Close()
		_ = cmd.Wait() // it has measured nothing
	}
	address, err = bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		stop()
		return "", nil, fmt.Errorf("start the stub: %w", err)
	}
	return strings.TrimSpace(address), stop, nil
}
