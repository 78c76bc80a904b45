package schema

import "crypto/sha256"

// Buckets is how many there are. A shard of an outbox is a range of them.
const Buckets = 256

// Bucket is the bucket of a message group, 0 to Buckets-1. The outbox's column of that
// name has the same.
func Bucket(group string) int { return int(sha256.Sum256([]byte(group))[0]) }
