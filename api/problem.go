package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/puddle/v2"
)

// retryAfter is what a 503 asks a client to wait, in seconds.
const retryAfter = "2"

// retryAfterInProgress is what a client is asked to wait whose request runs already.
const retryAfterInProgress = "1"

// Kinds of problems by which something is decided.
const (
	kindOutOfStock = "out-of-stock"
	kindInProgress = "request-in-progress"
	kindKeyReused  = "key-reused"
	kindOverloaded = "overloaded"
)

// problem is an error that is an answer: what is said to the client, and the
// cause, which only the log sees.
type problem struct {
	status int
	kind   string // the RFC 9457 type, relative to the document
	title  phrase
	detail phrase
	args   []any

	field    string    // the field that broke a rule
	orderID  uuid.UUID // the order whose outcome is not known
	shortage *shortage
	short    []shortItem
	kept     json.RawMessage // the body as it was kept, in place of all the rest
	allow    string          // the Allow header
	encoding string          // the Accept-Encoding header
	cause    error
}

func (p *problem) Error() string {
	said := p.kind
	if p.field != "" {
		said += " " + strconv.Quote(p.field)
	}
	if p.cause != nil {
		said = fmt.Sprintf("%s: %v", said, p.cause)
	}
	return said
}

func (p *problem) Unwrap() error { return p.cause }

// problemBody is a problem as application/problem+json.
// https://www.rfc-editor.org/rfc/rfc9457.html
type problemBody struct {
	Type    string     `json:"type"`
	Title   string     `json:"title"`
	Status  int        `json:"status"`
	Detail  string     `json:"detail"`
	Message string     `json:"message"`
	TraceID string     `json:"traceId"`
	Field   string     `json:"field,omitempty"`
	OrderID *uuid.UUID `json:"orderId,omitempty"`
	*shortage
	Shortages []shortItem `json:"shortages,omitempty"`
}

// shortItem is a product that an itemised checkout found short.
type shortItem struct {
	SKU             string    `json:"sku"`
	Requested       int       `json:"requested"`
	Remaining       int64     `json:"remaining"`
	ReplenishmentID uuid.UUID `json:"replenishmentId"`
}

// shortage is what an out-of-stock problem adds.
type shortage struct {
	SKU             string    `json:"sku"`
	Quantity        int       `json:"quantity"`
	RemainingStock  int64     `json:"remainingStock"`
	ReplenishmentID uuid.UUID `json:"replenishmentId"`
}

func (p *problem) body(l locale, traceID string) any {
	if p.kept != nil {
		return p.kept
	}
	b := problemBody{
		Type:     p.kind,
		Title:    p.title.in(l),
		Status:   p.status,
		Detail:   p.detail.in(l, p.args...),
		TraceID:  traceID,
		Field:    p.field,
		shortage: p.shortage, Shortages: p.short,
	}
	b.Message = b.Detail
	if p.shortage != nil {
		b.Message = sayOutOfStock.in(l, p.shortage.RemainingStock)
	}
	if p.short != nil {
		b.Message = sayItemsOutOfStock.in(l, len(p.short))
	}
	if p.orderID != uuid.Nil {
		b.OrderID = &p.orderID
	}
	return b
}

func malformed(detail phrase) *problem {
	return &problem{status: http.StatusBadRequest, kind: "malformed-body", title: titleMalformed, detail: detail}
}

func bodyTooSlow() *problem {
	return &problem{status: http.StatusRequestTimeout, kind: "request-timeout", title: titleTooSlow, detail: sayTooSlow}
}

func bodyTooLarge() *problem {
	return &problem{status: http.StatusRequestEntityTooLarge, kind: "body-too-large", title: titleTooLarge, detail: sayTooLarge, args: []any{maxBody}}
}

func notJSON() *problem {
	return &problem{status: http.StatusUnsupportedMediaType, kind: "unsupported-media-type", title: titleMediaType, detail: sayMediaType}
}

// encoded says how a body is taken.
// https://www.rfc-editor.org/rfc/rfc9110#section-15.5.16
func encoded() *problem {
	p := notJSON()
	p.detail, p.encoding = sayEncoding, "identity"
	return p
}

func invalid(field string, detail phrase, args ...any) *problem {
	return &problem{status: http.StatusUnprocessableEntity, kind: "invalid-value", title: titleInvalid, detail: detail, args: args, field: field}
}

// invalidField is invalid with the field's name first among what is said. A
// name comes from the client and may be of any length.
func invalidField(field string, detail phrase, args ...any) *problem {
	field = clip(field)
	return invalid(field, detail, append([]any{field}, args...)...)
}

// clip bounds a client's text that is repeated in an answer.
func clip(s string) string {
	const most = 64
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most]) + "…"
}

func overLimit(field string, most int) *problem {
	p := invalid(field, sayOverLimit, most)
	p.kind = "order-limit"
	return p
}

func notFound(detail phrase) *problem {
	return &problem{status: http.StatusNotFound, kind: "not-found", title: titleNotFound, detail: detail}
}

func unknownProduct() *problem {
	p := notFound(sayUnknownProduct)
	p.kind = "unknown-product"
	return p
}

func methodNotAllowed(allowed []string) *problem {
	allow := strings.Join(allowed, ", ")
	return &problem{status: http.StatusMethodNotAllowed, kind: "method-not-allowed", title: titleMethod, detail: sayMethod, args: []any{allow}, allow: allow}
}

func badSignature() *problem {
	return &problem{status: http.StatusForbidden, kind: "bad-signature", title: titleSignature, detail: saySignature}
}

func callbackConflict(delivered int) *problem {
	return &problem{status: http.StatusConflict, kind: "callback-conflict", title: titleConflict, detail: sayConflict, args: []any{delivered}}
}

func outOfStock(s shortage) *problem {
	return &problem{status: http.StatusConflict, kind: kindOutOfStock, title: titleOutOfStock, detail: sayShort, shortage: &s}
}

func itemsOutOfStock(short []shortItem) *problem {
	return &problem{status: http.StatusConflict, kind: kindOutOfStock, title: titleOutOfStock, detail: sayShort, short: short}
}

func malformedKey(detail phrase, args ...any) *problem {
	return &problem{status: http.StatusBadRequest, kind: "malformed-key", title: titleKey, detail: detail, args: args}
}

func keyReused() *problem {
	return &problem{status: http.StatusUnprocessableEntity, kind: kindKeyReused, title: titleKeyReused, detail: sayKeyReused}
}

func requestInProgress() *problem {
	return &problem{status: http.StatusConflict, kind: kindInProgress, title: titleInProgress, detail: sayInProgress}
}

func overloaded() *problem {
	return &problem{status: http.StatusServiceUnavailable, kind: kindOverloaded, title: titleOverloaded, detail: sayUnavailable}
}

func unavailable(cause error) *problem {
	return &problem{status: http.StatusServiceUnavailable, kind: "unavailable", title: titleUnavailable, detail: sayUnavailable, cause: cause}
}

func outcomeUnknown(orderID uuid.UUID, cause error) *problem {
	return &problem{status: http.StatusServiceUnavailable, kind: "outcome-unknown", title: titleUnknownOutcome, detail: sayUnknownOutcome, orderID: orderID, cause: cause}
}

func internal(cause error) *problem {
	return &problem{status: http.StatusInternalServerError, kind: "internal", title: titleInternal, detail: sayInternal, cause: cause}
}

// asProblem is the one place that gives an error its status. Handlers return
// problems where the client is wrong; the rest comes from the store.
func asProblem(err error) *problem {
	var p *problem
	switch {
	case errors.As(err, &p):
		return p
	case isUnavailable(err):
		return unavailable(err)
	default:
		return internal(err)
	}
}

// isUnavailable tells a database that cannot serve now from a mistake of ours.
func isUnavailable(err error) bool {
	var (
		connect *pgconn.ConnectError
		pg      *pgconn.PgError
		network net.Error
	)
	switch {
	case isUnsure(err), errors.As(err, &connect):
		return true
	case errors.As(err, &pg):
		return unavailableCode(pg.Code)
	case errors.As(err, &network), pgconn.SafeToRetry(err):
		return true
	}
	return slices.ContainsFunc(lostConnection, func(target error) bool { return errors.Is(err, target) })
}

var lostConnection = []error{
	io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, context.Canceled, context.DeadlineExceeded,
	puddle.ErrClosedPool, errNoConnection, errNoTurn, errStopped, errUnsettled,
}

// unavailableCode tells the SQLSTATEs that say "not now": connection (08),
// rollback (40), resources (53), lock timeout, operator intervention (57, which
// is also statement timeout), I/O (58), writing on a standby, and a transaction that
// was ended because it stood still or took too long.
// https://www.postgresql.org/docs/15/errcodes-appendix.html
func unavailableCode(code string) bool {
	switch code[:min(2, len(code))] {
	case "08", "40", "53", "57", "58":
		return true
	}
	return code == "55P03" || code == "25006" || code == "25P03" || code == "25P04"
}
