package consumers

import (
	"embed"
	"fmt"
	htmltemplate "html/template"
	"io"
	"strings"
	texttemplate "text/template"
	"time"
	"unicode"

	"github.com/google/uuid"
	"golang.org/x/text/unicode/bidi"
)

// adKind is what a mail asks for.
type adKind string

const (
	adStop   adKind = "stop"
	adResume adKind = "resume"
)

// Bounds on what a mail shows of texts that somebody typed, in characters.
const (
	maxHeaderName = 60
	maxHeader     = 250
	maxLine       = 200
)

// adTemplate is one mail in one language. The text defines its subject too.
type adTemplate struct {
	text *texttemplate.Template
	html *htmltemplate.Template
}

//go:embed templates
var templateFiles embed.FS

// adTemplates are all mails, by kind and language.
var adTemplates = parseAdTemplates()

func parseAdTemplates() map[adKind]map[string]adTemplate {
	all := make(map[adKind]map[string]adTemplate)
	for _, kind := range []adKind{adStop, adResume} {
		all[kind] = make(map[string]adTemplate)
		for _, language := range []string{"ko", "en"} {
			file := "ads_" + string(kind) + "." + language
			functions := map[string]any{"kstAndUTC": kstAndUTC}
			all[kind][language] = adTemplate{
				text: texttemplate.Must(texttemplate.New(file+".txt").Funcs(functions).ParseFS(templateFiles, "templates/"+file+".txt")),
				html: htmltemplate.Must(htmltemplate.New(file+".html").Funcs(functions).ParseFS(templateFiles, "templates/"+file+".html")),
			}
		}
	}
	return all
}

// adFacts is what a mail may show. Product and SKU are texts that somebody typed,
// made fit for the part of the mail that they stand in.
type adFacts struct {
	Product, SKU             string
	Stock                    int64
	At                       time.Time // when that was the stock
	Replenishment            uuid.UUID
	Asked, Delivered         int64
	RequestedAt, DeliveredAt time.Time
}

// compose writes the mail of one kind about c, in the product's language.
func compose(kind adKind, c adsCase, event uuid.UUID) (mail, error) {
	if err := checkRecipient(c.manager); err != nil {
		return mail{}, err
	}
	t, ok := adTemplates[kind][c.language]
	if !ok {
		return mail{}, fmt.Errorf("no mail is written in language %q", c.language)
	}
	subject, err := execute(t.text.Lookup("subject"), c.facts(headerWord))
	if err != nil {
		return mail{}, err
	}
	text, err := execute(t.text, c.facts(textWord))
	if err != nil {
		return mail{}, err
	}
	html, err := execute(t.html, c.facts(htmlWord))
	if err != nil {
		return mail{}, err
	}
	return mail{
		to: c.manager, subject: headerText(subject, maxHeader), text: text, html: html,
		tags: [][2]string{{"event-id", event.String()}, {"replenishment-id", c.replenishment.String()}, {"kind", string(kind)}},
	}, nil
}

// executor is a template of either kind.
type executor interface {
	Execute(w io.Writer, data any) error
}

func execute(t executor, facts adFacts) (string, error) {
	var b strings.Builder
	if err := t.Execute(&b, facts); err != nil {
		return "", fmt.Errorf("write mail: %w", err)
	}
	return b.String(), nil
}

// facts are c's, each text put through word.
func (c adsCase) facts(word func(string) string) adFacts {
	sku := orElse(word(c.sku), "-")
	return adFacts{
		Product: orElse(word(c.product), sku), SKU: sku,
		Stock: c.stock, At: c.at, Replenishment: c.replenishment,
		Asked: c.asked, Delivered: c.delivered, RequestedAt: c.requestedAt, DeliveredAt: c.deliveredAt,
	}
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// headerWord, textWord and htmlWord make a text fit for a part of the mail. In the
// text part one that runs from right to left is isolated, so that it cannot turn
// its surroundings around; in HTML the template does that with <bdi>, and escapes.
func headerWord(s string) string { return headerText(s, maxHeaderName) }
func textWord(s string) string   { return isolate(plainText(s, maxLine)) }
func htmlWord(s string) string   { return plainText(s, maxLine) }

// headerText makes any text one that a mail's header can have, whoever encodes it:
// one line, bounded, and no encoded word, which would be decoded into anything.
// https://www.rfc-editor.org/rfc/rfc2047#section-2
func headerText(s string, most int) string {
	return cut(strings.ReplaceAll(plainText(s, -1), "=?", "= ?"), most)
}

const (
	zeroWidthJoiner = '\u200D' // holds an emoji of several together
	isolateStart    = '\u2068' // FIRST STRONG ISOLATE
	isolateEnd      = '\u2069' // POP DIRECTIONAL ISOLATE
)

// plainText makes a text one line of visible characters, at most most of them
// where most is not negative. White space and control characters become single
// spaces; what formats unseen, as the controls of writing direction do, is left out.
func plainText(s string, most int) string {
	var b strings.Builder
	gap := false
	for _, r := range strings.ToValidUTF8(s, "\uFFFD") {
		switch {
		case unicode.IsSpace(r), unicode.IsControl(r):
			gap = b.Len() > 0
			continue
		case unicode.Is(unicode.Cf, r) && r != zeroWidthJoiner:
			continue
		}
		if gap {
			b.WriteByte(' ')
			gap = false
		}
		b.WriteRune(r)
	}
	return cut(b.String(), most)
}

// cut bounds a text to most characters; a negative most does not.
func cut(s string, most int) string {
	runes := []rune(s)
	if most < 0 || len(runes) <= most {
		return s
	}
	return strings.TrimRight(string(runes[:most-1]), " "+string(zeroWidthJoiner)) + "…"
}

// isolate wraps a text in an isolate if any of it runs from right to left.
func isolate(s string) string {
	for _, r := range s {
		p, _ := bidi.LookupRune(r)
		if c := p.Class(); c == bidi.R || c == bidi.AL || c == bidi.AN {
			return string(isolateStart) + s + string(isolateEnd)
		}
	}
	return s
}

// kst has no daylight saving time, so that no time zone database is needed.
var kst = time.FixedZone("KST", 9*60*60)

func kstAndUTC(t time.Time) string {
	const layout = "2006-01-02 15:04:05 MST"
	return t.In(kst).Format(layout) + " (" + t.UTC().Format(layout) + ")"
}
