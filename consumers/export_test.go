package consumers

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// SetRenewTick makes the worker renew at every tick of the test's, and no other.
func (w *Worker) SetRenewTick(tick <-chan time.Time) { w.renewTick = tick }

// SetDeleteLinger sets how long a message waits for others to be deleted with it.
func (w *Worker) SetDeleteLinger(d time.Duration) { w.deleter.linger = d }

// Divide divides 12 by each, in one transaction if it can.
func Divide(pool *pgxpool.Pool, by ...int) (quotients []int, errs []error) {
	answers := together(pool, by,
		func(b *pgx.Batch, n int) { b.Queue(`SELECT 12 / $1::integer`, n) },
		func(r pgx.BatchResults, _ int) (q int, err error) { err = r.QueryRow().Scan(&q); return q, err })
	for _, a := range answers {
		quotients, errs = append(quotients, a.answer), append(errs, a.err)
	}
	return quotients, errs
}

// WebhookHeaders signs a webhook of any id and body.
func WebhookHeaders(secrets []string, id string, at time.Time, body []byte) (http.Header, error) {
	s, err := newSigner(secrets)
	if err != nil {
		return nil, err
	}
	return s.headers(id, at, body), nil
}

// Trust has the factory's own transport take certificates of roots.
func (f *Factory) Trust(roots *x509.CertPool) {
	f.outside.client.Transport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
}
