package main

import (
	"context"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/service"
)

var screenshots = flag.String("screenshots", "", "folder for pictures of what the browser shows, to be looked at")

// browser is a page in a real one.
type browser struct {
	t        *testing.T
	ctx      context.Context
	mu       sync.Mutex
	troubles []string // exceptions, and what the page was not allowed to do
}

func newBrowser(t *testing.T) *browser {
	t.Helper()
	var path string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil && path == "" {
			path = found
		}
	}
	if path == "" {
		t.Skip("no chromium on this machine: the console is not tried in a browser; .ci/setup installs one where it may")
	}
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]), chromedp.ExecPath(path), chromedp.WindowSize(1200, 900))
	if os.Geteuid() == 0 { // its sandbox does not run as root, and it sees our own pages only
		options = append(options, chromedp.NoSandbox)
	}
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	b := &browser{t: t}
	b.ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(func() {
		if t.Failed() {
			text, _ := chromedp.Run(b.ctx, chromedp.Evaluate[string](`document.body.innerText`))
			t.Logf("the page says: %s\ntroubles: %v", text, b.troubles)
		}
		cancel()
	})
	require.NoError(t, chromedp.Listen(b.ctx, b.listen))
	return b
}

func (b *browser) listen(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		b.troubles = append(b.troubles, e.ExceptionDetails.Text+" "+e.ExceptionDetails.Exception.Description)
	case *cdplog.EventEntryAdded:
		if e.Entry.Level == cdplog.EntryLevelError && e.Entry.Source != cdplog.EntrySourceNetwork { // a 401 is one of these
			b.troubles = append(b.troubles, e.Entry.Text)
		}
	}
}

func (b *browser) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	require.NoError(b.t, chromedp.Do(ctx, steps...))
}

// run runs a script.
func (b *browser) run(script string) {
	b.t.Helper()
	b.do(chromedp.Evaluate[chromedp.Void](script))
}

// is tells whether an expression is true.
func (b *browser) is(expression string) bool {
	b.t.Helper()
	yes, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool]("!!("+expression+")"))
	require.NoError(b.t, err, expression)
	return yes
}

func (b *browser) eventually(what, expression string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	defer cancel()
	for !b.is(expression) {
		require.NoError(b.t, service.Sleep(ctx, 20*time.Millisecond), what)
	}
}

// press presses keys, one after the other.
func (b *browser) press(keys string) {
	b.t.Helper()
	b.do(chromedp.KeyEvent(keys))
}

// tabTo goes on with the Tab key until an element that meets the condition has the focus.
func (b *browser) tabTo(condition string) {
	b.t.Helper()
	for range 80 {
		if b.is(`((e) => !!e && (` + condition + `))(document.activeElement)`) {
			return
		}
		b.press(kb.Tab)
	}
	require.Fail(b.t, "the Tab key does not lead there", condition)
}

// shoot takes a picture to be looked at.
func (b *browser) shoot(name string) {
	b.t.Helper()
	if *screenshots == "" {
		return
	}
	png, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	require.NoError(b.t, err)
	require.NoError(b.t, os.WriteFile(filepath.Join(*screenshots, name+".png"), png, 0o600))
}

// requireNoTrouble holds the page to nothing that it tried in vain.
func (b *browser) requireNoTrouble() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	require.Empty(b.t, strings.Join(b.troubles, "; "))
}
