package schema

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"
)

// The event types.
const (
	TypeOrderPlaced            = "order.placed"
	TypeReplenishmentRequested = "replenishment.requested"
	TypeStockReplenished       = "stock.replenished"
	TypeCustomerPromoted       = "customer.promoted"
)

// The CloudEvents sources: the database that an event comes from.
const (
	sourceStore     = "/restock/store"
	sourceCustomers = "/restock/customers"
)

// Payload is the data of one event type, with all that the contract says about
// that type. The types below are all that there are.
type Payload interface {
	EventType() string
	about() about
}

// about is what an event of a payload carries outside its data.
type about struct {
	source     string
	entity     string // what the event is about: the CloudEvents subject
	group      string // the id whose events keep their order
	subject    string // the SNS subject; empty is none
	attributes map[string]Attribute
}

// payloads decodes each type's data. A type is known when it stands here.
var payloads = map[string]func(json.RawMessage) (Payload, error){
	TypeOrderPlaced:            decodeAs[OrderPlaced],
	TypeReplenishmentRequested: decodeAs[ReplenishmentRequested],
	TypeStockReplenished:       decodeAs[StockReplenished],
	TypeCustomerPromoted:       decodeAs[CustomerPromoted],
}

// Types lists the event types, sorted.
func Types() []string { return slices.Sorted(maps.Keys(payloads)) }

func decodeAs[P interface {
	Payload
	check() error
}](data json.RawMessage) (Payload, error) {
	var p P
	if err := json.Unmarshal(data, &p); err != nil {
		return nil, err
	}
	return p, p.check()
}

// Line is one product of an order.
type Line struct {
	SKU      string `json:"sku"`
	Quantity int64  `json:"quantity"`
}

// OrderPlaced tells of a checkout that took stock. Its group is the customer,
// or the order itself where the customer is anonymous.
type OrderPlaced struct {
	OrderID    uuid.UUID `json:"orderId"`
	CustomerID string    `json:"customerId,omitempty"`
	Quantity   int64     `json:"quantity"` // units of all lines together
	Lines      []Line    `json:"lines"`
}

// EventType is order.placed.
func (OrderPlaced) EventType() string { return TypeOrderPlaced }

func (p OrderPlaced) about() about {
	group := p.CustomerID
	if group == "" {
		group = p.OrderID.String()
	}
	return about{
		source: sourceStore, entity: p.OrderID.String(), group: group,
		attributes: map[string]Attribute{
			"quantity": {Type: "Number", Value: strconv.FormatInt(p.Quantity, 10)},
		},
	}
}

func (p OrderPlaced) check() error {
	return firstMissing(field{"orderId", p.OrderID != uuid.Nil}, field{"customerId", p.CustomerID == "" || validCustomer(p.CustomerID)},
		field{"quantity", p.Quantity > 0}, field{"lines", unitsOf(p.Lines) == p.Quantity})
}

// unitsOf adds up the lines of an order, 0 where one of them is no line.
func unitsOf(lines []Line) int64 {
	var units int64
	for _, l := range lines {
		if l.SKU == "" || l.Quantity <= 0 || l.Quantity > math.MaxInt64-units {
			return 0
		}
		units += l.Quantity
	}
	return units
}

// validCustomer tells whether a customer of that id can be kept: the customers
// table takes 128 characters, and Postgres no zero byte.
func validCustomer(id string) bool {
	n := utf8.RuneCountInString(id)
	return n >= 1 && n <= 128 && !strings.ContainsRune(id, 0)
}

// ReplenishmentRequested asks the factory for more of a product. Everything
// that the factory is told is in it, because a consumer may see it before the
// row that it came from.
type ReplenishmentRequested struct {
	ReplenishmentID uuid.UUID `json:"replenishmentId"`
	SKU             string    `json:"sku"`
	ProductName     string    `json:"productName"`
	Quantity        int64     `json:"quantity"`       // units asked of the factory
	RemainingStock  int64     `json:"remainingStock"` // units left when the checkout failed
	FactoryID       string    `json:"factoryId"`
	Requester       string    `json:"requester"` // product manager's mail
	CallbackURL     string    `json:"callbackUrl"`
}

// EventType is replenishment.requested.
func (ReplenishmentRequested) EventType() string { return TypeReplenishmentRequested }

// ArrivalGroup is the groupId that the factory expects with every request.
const ArrivalGroup = "stock-arrival-group"

func (p ReplenishmentRequested) about() about {
	return about{
		source: sourceStore, entity: p.SKU, group: p.SKU, subject: "도너츠 재고 부족",
		attributes: map[string]Attribute{
			"groupId":     stringAttribute(ArrivalGroup),
			"productId":   stringAttribute(p.SKU),
			"productCnt":  stringAttribute(strconv.FormatInt(p.Quantity, 10)),
			"factoryId":   stringAttribute(p.FactoryID),
			"requester":   stringAttribute(p.Requester),
			"callbackUrl": stringAttribute(p.CallbackURL),
		},
	}
}

func (p ReplenishmentRequested) check() error {
	return firstMissing(field{"replenishmentId", p.ReplenishmentID != uuid.Nil}, field{"sku", p.SKU != ""}, field{"quantity", p.Quantity > 0},
		field{"factoryId", p.FactoryID != ""}, field{"requester", p.Requester != ""}, field{"callbackUrl", p.CallbackURL != ""})
}

// StockReplenished tells that the factory delivered.
type StockReplenished struct {
	ReplenishmentID uuid.UUID `json:"replenishmentId"`
	SKU             string    `json:"sku"`
	ProductName     string    `json:"productName"`
	Quantity        int64     `json:"quantity"` // units delivered
	Stock           int64     `json:"stock"`    // units in stock after the delivery
}

// EventType is stock.replenished.
func (StockReplenished) EventType() string { return TypeStockReplenished }

func (p StockReplenished) about() about {
	return about{source: sourceStore, entity: p.SKU, group: p.SKU}
}

func (p StockReplenished) check() error {
	return firstMissing(field{"replenishmentId", p.ReplenishmentID != uuid.Nil}, field{"sku", p.SKU != ""}, field{"quantity", p.Quantity > 0})
}

// CustomerPromoted tells that a customer became VIP.
type CustomerPromoted struct {
	CustomerID string    `json:"customerId"`
	OrderID    uuid.UUID `json:"orderId"` // the order that did it
	Quantity   int64     `json:"quantity"`
}

// EventType is customer.promoted.
func (CustomerPromoted) EventType() string { return TypeCustomerPromoted }

func (p CustomerPromoted) about() about {
	return about{source: sourceCustomers, entity: p.CustomerID, group: p.CustomerID}
}

func (p CustomerPromoted) check() error {
	return firstMissing(field{"customerId", validCustomer(p.CustomerID)}, field{"orderId", p.OrderID != uuid.Nil})
}

type field struct {
	name string
	set  bool
}

func firstMissing(fields ...field) error {
	for _, f := range fields {
		if !f.set {
			return fmt.Errorf("%s is missing or out of range", f.name)
		}
	}
	return nil
}
