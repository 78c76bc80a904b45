package localmarketing

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/google/uuid"
)

// event is what a webhook's body has to hold.
// https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md
type event struct {
	SpecVersion     string          `json:"specversion"`
	ID              string          `json:"id"`
	Source          string          `json:"source"`
	Type            string          `json:"type"`
	Subject         string          `json:"subject"`
	Time            time.Time       `json:"time"`
	DataContentType string          `json:"datacontenttype"`
	DataSchema      string          `json:"dataschema"`
	Data            json.RawMessage `json:"data"`
}

// promotion is the data of customer.promoted.
type promotion struct {
	CustomerID string    `json:"customerId"`
	OrderID    uuid.UUID `json:"orderId"`
	Quantity   int64     `json:"quantity"`
}

// attributeName is what a CloudEvents attribute may be called.
// https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md#attribute-naming-convention
var attributeName = regexp.MustCompile(`^[a-z0-9]+$`)

// readEvent takes a body apart and is strict with it.
func readEvent(body []byte) (event, promotion, error) {
	var (
		members map[string]json.RawMessage
		e       event
		p       promotion
	)
	if err := json.Unmarshal(body, &members); err != nil {
		return e, p, fmt.Errorf("body: %w", err)
	}
	for name := range members {
		if !attributeName.MatchString(name) {
			return e, p, fmt.Errorf("attribute %q: lower-case letters and digits are allowed", name)
		}
	}
	if err := json.Unmarshal(body, &e); err != nil {
		return e, p, fmt.Errorf("body: %w", err)
	}
	if err := e.check(); err != nil {
		return e, p, err
	}
	decoder := json.NewDecoder(bytes.NewReader(e.Data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&p); err != nil {
		return e, p, fmt.Errorf("data: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return e, p, errors.New("data: something follows the object")
	}
	switch {
	case p.CustomerID == "" || p.OrderID == uuid.Nil || p.Quantity < 1:
		return e, p, errors.New("data: want customerId, orderId and a quantity from 1")
	case e.Subject != p.CustomerID:
		return e, p, errors.New("subject is not the customer")
	}
	return e, p, nil
}

func (e event) check() error {
	source, sourceErr := url.Parse(e.Source)
	dataSchema, schemaErr := url.Parse(e.DataSchema)
	switch {
	case e.SpecVersion != "1.0":
		return fmt.Errorf("specversion %q: want 1.0", e.SpecVersion)
	case strings.TrimSpace(e.ID) == "":
		return errors.New("id is missing")
	case sourceErr != nil || source.String() == "":
		return errors.New("source: want a URI reference")
	case e.Type != "customer.promoted":
		return fmt.Errorf("type %q: only customer.promoted was subscribed to", e.Type)
	case e.Time.IsZero():
		return errors.New("time is missing")
	case e.DataContentType != "application/json":
		return fmt.Errorf("datacontenttype %q: want application/json", e.DataContentType)
	case schemaErr != nil || !dataSchema.IsAbs():
		return errors.New("dataschema: want a URI")
	}
	return nil
}
