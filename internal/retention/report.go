package retention

import (
	"fmt"
	"strings"
	"time"
)

// What became of a partition that is past its time.
const (
	Removed = "removed"
	Planned = "planned" // a dry run would remove it
	Kept    = "kept"    // for reasons
	Failed  = "failed"  // may go, and could not be removed; a later run completes it
)

// Report is all that is past its time, in the order in which it was looked at.
type Report struct {
	DryRun     bool        `json:"dryRun"`
	Partitions []Partition `json:"partitions"`
}

// Partition is what became of one.
type Partition struct {
	Database string   `json:"database"`
	Name     string   `json:"name"`
	Table    string   `json:"table"`
	Day      string   `json:"day"`
	Outcome  string   `json:"outcome"`
	Reasons  []Reason `json:"reasons,omitempty"`
	Error    string   `json:"error,omitempty"`
}

func (r *Report) add(p *partition, outcome string, reasons []Reason, err error) {
	line := Partition{Database: p.db.name, Name: p.name(), Table: p.table, Day: p.day.Format(time.DateOnly), Outcome: outcome, Reasons: reasons}
	if err != nil {
		line.Error = err.Error()
	}
	r.Partitions = append(r.Partitions, line)
}

// Count is how many partitions had the outcome.
func (r *Report) Count(outcome string) (n int) {
	for _, p := range r.Partitions {
		if p.Outcome == outcome {
			n++
		}
	}
	return n
}

// texts are reasons as a person reads them, with their count.
var texts = map[string]string{
	Unpublished: "%d not published",
	Parked:      "%d parked",
	Replaying:   "%d to be replayed",
	Queued:      "%d published or replayed so late that a queue may have them still",
	Dead:        "%d dead-lettered",
	Unhandled:   "%d begun by a consumer and not ended",
	Unconfirmed: "%d slot has not confirmed what is recorded",
	Outbox:      "%d outbox partition of the day is still there",
	Foreign:     "%d table that somebody else has detached",
}

// String is the partition's line.
func (p Partition) String() string {
	line := fmt.Sprintf("%s: %s %s", p.Database, p.Name, p.Outcome)
	var why []string
	for _, r := range p.Reasons {
		text := fmt.Sprintf(texts[r.Name], r.Count)
		if r.Database != p.Database {
			text += " in " + r.Database
		}
		why = append(why, text)
	}
	if p.Error != "" {
		why = append(why, p.Error)
	}
	if len(why) > 0 {
		line += ": " + strings.Join(why, ", ")
	}
	return line
}
