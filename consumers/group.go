package consumers

import "time"

// runGroup works through the messages of one group in order. step handles one
// and tells whether the group may go on; where it may not, runGroup stops and
// returns the messages that are to be put back, the one that stopped it first,
// and how long that one is to wait. Its successors wait for nothing of their own:
// the queue holds them behind it.
func runGroup[M any](messages []M, step func(M) (delay time.Duration, goOn bool)) (back []M, delay time.Duration) {
	for i, m := range messages {
		if delay, goOn := step(m); !goOn {
			return messages[i:], delay
		}
	}
	return nil, 0
}

// byGroup splits messages into their groups, each in the order received.
func byGroup[M any](messages []M, group func(M) string) [][]M {
	var groups [][]M
	index := make(map[string]int)
	for _, m := range messages {
		i, ok := index[group(m)]
		if !ok {
			i = len(groups)
			index[group(m)] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], m)
	}
	return groups
}
