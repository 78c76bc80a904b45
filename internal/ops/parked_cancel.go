package ops

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Cancel takes back that groups are to be sent, and returns them: what is not sent of them
// yet stays parked, in its order, and so does what comes of them. The active relay carries
// that out, within a second or two; until Cancelling says so, what it has in hand may still
// go. A group that is named and not being sent is an error; one of which all is sent already
// just goes on.
func (p *Parked) Cancel(ctx context.Context, s ParkedSelection) ([]string, error) {
	if err := s.Validate(); err != nil {
		return nil, fmt.Errorf("cancel what is sent: %w", err)
	}
	if len(s.Events) > 0 {
		return nil, fmt.Errorf("cancel what is sent: %w", errors.New("name groups: an event that is sent by itself goes, or is parked again"))
	}
	var groups []string
	err := pgx.BeginFunc(ctx, p.db, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `UPDATE parked_groups SET state = 'cancelling'
			WHERE state IN ('sending', 'cancelling') AND ($1 OR message_group = ANY($2)) RETURNING message_group`, s.All, s.Groups)
		if err != nil {
			return err
		}
		if groups, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
			return err
		}
		found := make(map[string]bool)
		for _, g := range groups {
			found[g] = true
		}
		for _, g := range s.Groups {
			if !found[g] {
				return refuse("group %s is not being sent", g)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cancel what is sent: %w", err)
	}
	for _, g := range groups {
		p.log.Warn().Str("group", g).Str("by", p.by).Msg("sending a parked group is cancelled")
	}
	return groups, nil
}

// Cancelling tells of how many groups the relay has not let go yet, and how many events of
// them are parked.
func (p *Parked) Cancelling(ctx context.Context, groups []string) (left, parked int, err error) {
	err = p.db.QueryRow(ctx, `SELECT (SELECT count(*) FROM parked_groups WHERE message_group = ANY($1) AND state = 'cancelling'),
		(SELECT count(*) FROM parked WHERE message_group = ANY($1) AND state = 'parked' AND reason = 'held')`, groups).Scan(&left, &parked)
	if err != nil {
		return 0, 0, fmt.Errorf("look how far cancelling is: %w", err)
	}
	return left, parked, nil
}
