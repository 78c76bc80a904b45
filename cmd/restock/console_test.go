package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
)

// TestConsoleInABrowser: somebody signs in, sees the numbers move with a checkout, finds
// a dead letter, mends its cause, and redrives it with the keyboard alone. The page then
// fits a phone, and is dark where it is asked to be.
func TestConsoleInABrowser(t *testing.T) {
	t.Parallel()
	b := newBrowser(t)
	dir := filepath.Join(t.TempDir(), "data")
	require.NoError(t, os.MkdirAll(dir, 0o711))
	demo := launch(t, nil, append(anywhere(dir), "--factory-delay", "1h", "--log-level", "warn")...)
	token, err := os.ReadFile(filepath.Join(dir, "console-token"))
	require.NoError(t, err)
	pool, err := pgxpool.New(t.Context(), demo.endpoints["postgres"])
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	checkout := func() int {
		res, err := http.Post(demo.endpoints["api"]+"/checkout", "", nil)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		return res.StatusCode
	}
	sql := func(text string) {
		_, err := pool.Exec(t.Context(), text)
		require.NoError(t, err)
	}

	// Signing in, the first time in vain.
	b.do(chromedp.Navigate(demo.endpoints["console"]), chromedp.WaitVisible(chromedp.CSS("#token")))
	b.press("not-the-token" + kb.Enter)
	b.eventually("a wrong token is told", `document.querySelector("#login-error").textContent.includes("wrong")`)
	b.shoot("login")
	b.press(strings.TrimSpace(string(token)) + kb.Enter)
	b.eventually("the health is seen", `document.querySelector("#health").textContent === "healthy"`)
	require.False(t, b.is(`document.cookie.length > 0`), "no script can read the cookie")

	// A checkout moves the numbers. Its product is made one that nobody can be mailed about.
	sql(`UPDATE products SET stock = 10, initial_stock = 10, ad_manager_email = 'nobody' WHERE sku = 'CP-502101'`)
	for checkout() == http.StatusOK {
	}
	b.eventually("the rate moves", `document.querySelector("#picture svg").getAttribute("aria-label").match(/store: .* 0\.\d+\/s/)`)
	b.eventually("the dead letter is counted", `document.querySelector("#dead-count").textContent === "1"`)
	b.eventually("the lag is plotted", `document.querySelectorAll("#plot-rate path.series").length === 2`)
	b.shoot("pipeline")

	// Its way is found by Enter on the newest event.
	b.tabTo(`e.hash === "#events"`)
	b.press(kb.Enter)
	b.eventually("the event is listed", `[...document.querySelectorAll("#recent button")].some((e) => e.textContent === "replenishment.requested")`)
	b.tabTo(`e.textContent === "replenishment.requested"`)
	b.press(kb.Enter)
	b.eventually("its way is told", `document.querySelector("#trace").innerText.includes("dead after 1 attempts")`)
	b.shoot("events")

	// Mended, and redriven by keyboard.
	sql(`UPDATE products SET ad_manager_email = 'ads@donuts.example' WHERE sku = 'CP-502101'`)
	b.run(`document.activeElement.blur()`)
	b.tabTo(`e.hash === "#dead"`)
	b.press(kb.Enter)
	b.eventually("it is listed", `document.querySelector("#dead tbody")?.innerText.includes("ad manager")`)
	b.shoot("dead")
	b.tabTo(`e.textContent === "Redrive"`)
	b.press(kb.Enter)
	b.eventually("it is told what will happen", `document.querySelector("#dialog").open && document.activeElement.id === "why"`)
	b.shoot("redrive")
	b.press(kb.Enter)
	require.True(t, b.is(`document.querySelector("#dialog").open`), "without a reason nothing is done")
	b.press("the address is corrected" + kb.Enter)
	b.eventually("it is gone", `document.querySelector("#dead .empty")?.textContent === "Nothing is dead."`)
	b.eventually("its count is gone", `document.querySelector("#dead-count").hidden`)

	// What others wrote is text, and what is parked can be given up.
	sql(`INSERT INTO parked (day, event_id, message_group, seq, reason, detail)
		SELECT day, id, message_group, seq, 'rejected', '<img src=x onerror="document.title=1"> <b>no</b>' FROM outbox WHERE type = 'order.placed' LIMIT 1`)
	b.run(`location.hash = "#parked"`)
	b.eventually("it is listed", `document.querySelector("#parked tbody")?.innerText.includes("<b>no</b>")`)
	b.tabTo(`e.textContent === "Events"`)
	b.press(kb.Enter)
	b.eventually("its events are listed", `document.querySelector("#parked-events tbody")?.innerText.includes("order.placed")`)
	b.shoot("parked")
	b.run(`document.querySelector("#parked [data-key^=Skip]").focus()`)
	b.press(kb.Enter)
	b.eventually("it is told what will happen", `document.querySelector("#dialog").open && document.activeElement.id === "why"`)
	b.shoot("skip")
	b.press("refunded" + kb.Enter)
	b.eventually("it is given up", `document.querySelector("#parked .empty")?.textContent === "Nothing is parked."`)

	// Planned and replayed.
	b.run(`location.hash = "#replay"; document.querySelector("#r-sku").value = "CP-502101"; document.querySelector("#replay-form").requestSubmit()`)
	b.eventually("it is planned", `document.querySelector("#dialog").open`)
	b.shoot("plan")
	b.press(kb.Enter)
	b.eventually("it is replayed", `document.querySelector("#replays tbody")?.innerText.includes("done")`)
	b.shoot("replay")

	// Dark, and on a phone, which is 400% on a wide screen.
	_, err = chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}}})
	require.NoError(t, err)
	require.True(t, b.is(`getComputedStyle(document.documentElement).backgroundColor === "rgb(23, 23, 21)"`))
	b.do(chromedp.EmulateViewport(320, 640))
	for _, view := range []string{"pipeline", "events", "parked", "dead", "replay", "replenishments", "books"} {
		b.run(`location.hash = "#` + view + `"`)
		b.eventually(view+" is shown", `!document.querySelector("[data-view=`+view+`]").hidden`)
		b.shoot("narrow-" + view)
		require.True(t, b.is(`document.documentElement.scrollWidth <= 320`), "%s goes past the screen", view)
	}
	b.requireNoTrouble()
}
