package schema

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// The consumers.
const (
	ConsumerFactory   = "factory"
	ConsumerAds       = "ads"
	ConsumerVIP       = "vip"
	ConsumerMarketing = "marketing"
)

// DefaultVIPThreshold is the number of units in one order that makes a customer
// VIP.
const DefaultVIPThreshold = 100

// Interest is what one consumer wants: events of some types, and of those only
// the ones of at least MinQuantity units where that is not 0.
type Interest struct {
	Consumer    string
	Types       []string
	MinQuantity int64
	// Raw is whether SNS delivers the bare body. The factory's queue takes the
	// SNS envelope, because an existing Lambda reads the attributes out of it.
	Raw bool
}

// Interests lists every consumer's interest, given the VIP threshold in units.
func Interests(vipThreshold int64) []Interest {
	return []Interest{
		{Consumer: ConsumerFactory, Types: []string{TypeReplenishmentRequested}},
		{Consumer: ConsumerAds, Types: []string{TypeReplenishmentRequested, TypeStockReplenished}, Raw: true},
		{Consumer: ConsumerVIP, Types: []string{TypeOrderPlaced}, MinQuantity: vipThreshold, Raw: true},
		{Consumer: ConsumerMarketing, Types: []string{TypeCustomerPromoted}, Raw: true},
	}
}

// InterestOf returns one consumer's interest.
func InterestOf(consumer string, vipThreshold int64) (Interest, bool) {
	all := Interests(vipThreshold)
	i := slices.IndexFunc(all, func(in Interest) bool { return in.Consumer == consumer })
	if i < 0 {
		return Interest{}, false
	}
	return all[i], true
}

// FilterPolicy is the interest as an SNS subscription filter policy over
// message attributes.
// https://docs.aws.amazon.com/sns/latest/dg/sns-subscription-filter-policies.html
func (in Interest) FilterPolicy() string {
	policy := map[string]any{"eventType": in.Types}
	if in.MinQuantity > 0 {
		policy["quantity"] = []any{map[string]any{"numeric": []any{">=", in.MinQuantity}}}
	}
	text, err := json.Marshal(policy)
	if err != nil {
		panic(err) // strings and integers always encode
	}
	return string(text)
}

// Wants is the interest as a check of an event that arrived.
func (in Interest) Wants(e Envelope) bool {
	if !slices.Contains(in.Types, e.Type) {
		return false
	}
	if in.MinQuantity == 0 {
		return true
	}
	var d struct{ Quantity int64 }
	return json.Unmarshal(e.Data, &d) == nil && d.Quantity >= in.MinQuantity
}

// SQL is the interest as a condition on rows of the outbox. It holds nothing
// but constants of this package and a number.
func (in Interest) SQL() string {
	quoted := make([]string, len(in.Types))
	for i, t := range in.Types {
		quoted[i] = "'" + t + "'"
	}
	cond := "type IN (" + strings.Join(quoted, ", ") + ")"
	if in.MinQuantity > 0 {
		// A path and no cast: a row written by hand, whose quantity is no number, is not
		// wanted and must not break the query. Most orders are small, which their length
		// tells for a third of the price: no number of two characters is 100.
		cond += fmt.Sprintf(" AND coalesce(octet_length(attributes #>> '{quantity,value}') >= %d AND attributes @@ '$.quantity.value.double() >= %d', false)",
			min(len(strconv.FormatInt(in.MinQuantity, 10)), 3), in.MinQuantity)
	}
	return cond
}
