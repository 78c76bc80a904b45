package localfactory

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

const maxBody = 64 << 10

// Handler serves the factory's API.
func (f *Factory) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/manufactures", f.manufacture)
	mux.HandleFunc("GET /api/manufactures", f.list)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	return mux
}

func (f *Factory) manufacture(w http.ResponseWriter, r *http.Request) {
	order, err := readOrder(r)
	if err != nil {
		answer(w, http.StatusBadRequest, map[string]string{"error": err.Error()})
		return
	}
	fault := f.nextFault()
	if !f.wait(r.Context(), f.cfg.Latency+fault.Slow) {
		panic(http.ErrAbortHandler)
	}
	fails := fault.Cut || fault.Status != 0
	var p Production
	if !fails || fault.Accept {
		var ok bool
		if p, ok = f.take(r.Header.Get("Idempotency-Key"), order); !ok {
			answer(w, http.StatusUnprocessableEntity, map[string]string{"error": "this Idempotency-Key was used for another order"})
			return
		}
		f.cfg.Logger.Info().Stringer("production", p.ID).Str("sku", order.ProductID).Str("quantity", order.ProductCnt).
			Int("requests", p.Requests).Msg("production ordered")
	}
	switch {
	case fault.Cut:
		panic(http.ErrAbortHandler)
	case fails:
		if fault.RetryAfter != "" {
			w.Header().Set("Retry-After", fault.RetryAfter)
		}
		w.WriteHeader(fault.Status)
		_, _ = io.WriteString(w, fault.Body) // the client is gone: there is no one to tell
	default:
		answer(w, http.StatusOK, map[string]any{
			// Spelled as the factory spells it.
			"data": map[string]any{"data": order, "id": p.ID, "reqestor": order.Requester},
		})
	}
}

var count = regexp.MustCompile(`^[1-9][0-9]{0,6}$`)

// readOrder takes a request apart and is strict with it.
func readOrder(r *http.Request) (Order, error) {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != "application/json" {
		return Order{}, fmt.Errorf("content type %q: want application/json", r.Header.Get("Content-Type"))
	}
	decoder := json.NewDecoder(io.LimitReader(r.Body, maxBody))
	decoder.DisallowUnknownFields()
	var o Order
	if err := decoder.Decode(&o); err != nil {
		return Order{}, fmt.Errorf("body: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return Order{}, errors.New("body: something follows the object")
	}
	for name, value := range map[string]string{
		"MessageGroupId":             o.GroupID,
		"MessageAttributeProductId":  o.ProductID,
		"MessageAttributeProductCnt": o.ProductCnt,
		"MessageAttributeFactoryId":  o.FactoryID,
		"MessageAttributeRequester":  o.Requester,
		"CallbackUrl":                o.CallbackURL,
	} {
		if strings.TrimSpace(value) == "" {
			return Order{}, fmt.Errorf("%s is missing", name)
		}
	}
	if !count.MatchString(o.ProductCnt) {
		return Order{}, fmt.Errorf("MessageAttributeProductCnt %q: want a whole number as a string", o.ProductCnt)
	}
	if u, err := url.Parse(o.CallbackURL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return Order{}, errors.New("CallbackUrl: want an http or https URL")
	}
	return o, nil
}

// list shows the productions, without what would let a reader call back.
func (f *Factory) list(w http.ResponseWriter, _ *http.Request) {
	productions := f.Productions()
	for i := range productions {
		productions[i].Order.CallbackURL = redact(productions[i].Order.CallbackURL)
	}
	answer(w, http.StatusOK, map[string]any{"productions": productions})
}

func redact(callback string) string {
	u, err := url.Parse(callback)
	if err != nil {
		return "unreadable"
	}
	if q := u.Query(); q.Has("sig") {
		q.Set("sig", "redacted")
		u.RawQuery = q.Encode()
	}
	return u.String()
}

// unwrapURL takes the URL, which carries the signature, out of a client's error.
func unwrapURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client is gone: there is no one to tell
}
