package consumers

import (
	"flag"
	netmail "net/mail"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write the golden files")

func sampleCase(language string) adsCase {
	at := time.Date(2026, 11, 22, 15, 30, 5, 0, time.UTC) // the next day in Korea
	return adsCase{
		replenishment: uuid.MustParse("01932b6e-7c00-7000-8000-000000000001"),
		sku:           "CP-502101", product: "도너츠", language: language, manager: "ads@donuts.example",
		stock: 3, at: at, state: "requested", asked: 10, delivered: 8,
		requestedAt: at.Add(-2 * time.Second), deliveredAt: at.Add(-time.Second),
	}
}

var sampleEvent = uuid.MustParse("01932b6e-7c00-7000-8000-000000000002")

func TestMailTexts(t *testing.T) {
	t.Parallel()
	for _, kind := range []adKind{adStop, adResume} {
		for _, language := range []string{"ko", "en"} {
			name := string(kind) + "." + language
			t.Run(name, func(t *testing.T) {
				m, err := compose(kind, sampleCase(language), sampleEvent)
				require.NoError(t, err)
				require.Equal(t, "ads@donuts.example", m.to)
				require.Equal(t, [][2]string{
					{"event-id", sampleEvent.String()}, {"replenishment-id", "01932b6e-7c00-7000-8000-000000000001"}, {"kind", string(kind)},
				}, m.tags)
				golden(t, name+".txt", "Subject: "+m.subject+"\n\n"+m.text)
				golden(t, name+".html", m.html)
			})
		}
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", "mail", name)
	if *update {
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}

func TestMailOfHostileNames(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		product string
		subject string // how the name stands there
		text    string
		html    string
	}{
		"line breaks":   {"Donut\r\nBcc: evil@example.com\r\n\r\nhi", "Donut Bcc: evil@example.com hi", "Donut Bcc: evil@example.com hi", "Donut Bcc: evil@example.com hi"},
		"other lines":   {"a\u2028b\u2029c\u0085d\ve\ff\x00g", "a b c d e f g", "a b c d e f g", "a b c d e f g"},
		"10 KiB":        {strings.Repeat("도", 10<<10/3), strings.Repeat("도", 59) + "…", strings.Repeat("도", 199) + "…", strings.Repeat("도", 199) + "…"},
		"right to left": {"كعكة", "كعكة", "\u2068كعكة\u2069", "<bdi>كعكة</bdi>"},
		"overrides":     {"Donut\u202Egnp.exe\u2066\u200F", "Donutgnp.exe", "Donutgnp.exe", "Donutgnp.exe"},
		"emoji":         {"🍩👩‍🍳❤️", "🍩👩‍🍳❤️", "🍩👩‍🍳❤️", "🍩👩‍🍳❤️"},
		"markup":        {`<script>alert("x")</script>&`, `<script>alert("x")</script>&`, `<script>alert("x")</script>&`, "&lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt;&amp;"},
		"template":      {"{{.Stock}}", "{{.Stock}}", "{{.Stock}}", "{{.Stock}}"},
		"encoded word":  {"=?utf-8?q?=0D=0ABcc:evil?=", "= ?utf-8?q?=0D=0ABcc:evil?=", "=?utf-8?q?=0D=0ABcc:evil?=", "=?utf-8?q?=0D=0ABcc:evil?="},
		"broken":        {"a\xffb", "a\uFFFDb", "a\uFFFDb", "a\uFFFDb"},
		"nothing":       {" \r\n\u202E\u200B ", "CP-502101", "CP-502101", "CP-502101"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := sampleCase("en")
			c.product = test.product
			m, err := compose(adStop, c, sampleEvent)
			require.NoError(t, err)
			require.Equal(t, "[Stop the ads] "+test.subject+" (CP-502101), stock 3, replenishment "+c.replenishment.String(), m.subject)
			require.Contains(t, m.text, "\nProduct: "+test.text+"\n")
			require.Contains(t, m.html, test.html)
			require.NotContains(t, m.html, "<script")
		})
	}
	c := sampleCase("ko")
	c.product, c.sku = "\n", "\r"
	m, err := compose(adResume, c, sampleEvent)
	require.NoError(t, err)
	require.Contains(t, m.subject, "] - (-) 재고 3개")
}

// hostile draws texts that somebody might have typed to do harm.
func hostile() *rapid.Generator[string] {
	nasty := rapid.SampledFrom([]string{
		"\r\n", "\n", "\r", "\u2028", "\x00", "\u202E", "\u2066", "\u2069", "\u200D", "\uFEFF", "=?utf-8?b?DQo=?=", "=?", "Bcc: a@b.c", "\xff", "\xe2\x80",
		"<script>", "{{.}}", "🍩", "도", "كعكة", strings.Repeat("x", 10<<10), " ",
	})
	part := rapid.OneOf(rapid.String(), nasty)
	return rapid.Custom(func(t *rapid.T) string { return strings.Join(rapid.SliceOfN(part, 0, 6).Draw(t, "parts"), "") })
}

// Whatever a product is called, its mail has one line in each header.
func TestMailHeadersHoldNoLineBreak(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := sampleCase(rapid.SampledFrom([]string{"ko", "en"}).Draw(t, "language"))
		c.product, c.sku = hostile().Draw(t, "product"), hostile().Draw(t, "sku")
		m, err := compose(rapid.SampledFrom([]adKind{adStop, adResume}).Draw(t, "kind"), c, sampleEvent)
		if err != nil {
			t.Fatal(err)
		}
		checkHeader(t, m.subject, maxHeader)
		checkHeader(t, m.to, 254)
		for _, tag := range m.tags {
			checkHeader(t, tag[0]+tag[1], 512)
		}
		if !strings.Contains(m.subject, c.replenishment.String()) {
			t.Fatalf("the subject was cut before its end: %q", m.subject)
		}
		if lines := strings.Count(m.text, "\n"); lines != 12 {
			t.Fatalf("the text has %d lines: %q", lines, m.text)
		}
	})
}

// Whatever is taken for a recipient or a sender is one header's line.
func TestMailAddressesHoldNoLineBreak(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		address := hostile().Draw(t, "before") + rapid.SampledFrom([]string{"", "@", "a@b.example"}).Draw(t, "middle") + hostile().Draw(t, "after")
		if err := checkRecipient(address); err == nil {
			checkHeader(t, address, 1<<20)
		} else if strings.Contains(err.Error(), "@") {
			t.Fatalf("the error shows an address: %v", err)
		}
		if from, err := sender(address + " <ads@donuts.example>"); err == nil {
			checkHeader(t, from, 1<<20)
		}
	})
}

type fataler interface {
	Fatalf(format string, args ...any)
}

func checkHeader(t fataler, s string, most int) {
	switch {
	case !utf8.ValidString(s):
		t.Fatalf("not UTF-8: %q", s)
	case utf8.RuneCountInString(s) > most:
		t.Fatalf("over %d characters: %q", most, s)
	case strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' }):
		t.Fatalf("a control character: %q", s)
	case strings.ContainsFunc(s, func(r rune) bool { return unicode.Is(unicode.Bidi_Control, r) }):
		t.Fatalf("a control of writing direction: %q", s)
	}
}

func FuzzHeaderText(f *testing.F) {
	for _, seed := range []string{"", "Donut", "a\r\nBcc: b@c.d", "=?utf-8?q?=0D?=", "\u202E=\u202E?", "👩‍🍳", "\xff\xfe", strings.Repeat("도", 100), "a \u200D b"} {
		f.Add(seed, 10)
	}
	f.Fuzz(func(t *testing.T, s string, most int) {
		if most < 1 || most > 1000 {
			return
		}
		got := headerText(s, most)
		checkHeader(t, got, most)
		if strings.Contains(got, "=?") {
			t.Fatalf("an encoded word: %q", got)
		}
		if again := headerText(got, most); again != got {
			t.Fatalf("%q becomes %q the second time", got, again)
		}
	})
}

func TestRecipients(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"ads@donuts.example", "a.b+c@xn--9n2bp8q.example"} {
		require.NoError(t, checkRecipient(address), address)
	}
	for _, address := range []string{
		"", "nobody", "a@", "@b.example", "a@b.example, c@d.example", "Ads <a@b.example>", "<a@b.example>", " a@b.example", "a@b.example\r\nBcc: c@d.example",
		`"a b"@c.example`, "광고@donuts.example", "ads@도너츠.example", "a@b.example\x00", "a@b.example (ads)",
	} {
		require.Error(t, checkRecipient(address), address)
	}
}

func TestSender(t *testing.T) {
	t.Parallel()
	for from, want := range map[string]string{
		"ads@donuts.example":                                     "ads@donuts.example",
		"<ads@donuts.example>":                                   "ads@donuts.example",
		"Donut Ads <ads@donuts.example>":                         `"Donut Ads" <ads@donuts.example>`,
		"도너츠 <ads@donuts.example>":                               "=?utf-8?q?=EB=8F=84=EB=84=88=EC=B8=A0?= <ads@donuts.example>",
		"=?utf-8?q?a=0D=0ABcc=3A_b=40c.d?= <ads@donuts.example>": `"a Bcc: b@c.d" <ads@donuts.example>`,
	} {
		got, err := sender(from)
		require.NoError(t, err, from)
		require.Equal(t, want, got)
		parsed, err := netmail.ParseAddress(got)
		require.NoError(t, err)
		require.Equal(t, "ads@donuts.example", parsed.Address)
	}
	for _, from := range []string{"", "ads", "a@b.c, d@e.f", "a@b.c\r\nBcc: d@e.f"} {
		_, err := sender(from)
		require.ErrorContains(t, err, "want address", from)
	}
}
