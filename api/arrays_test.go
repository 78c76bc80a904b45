package api

import (
	"math"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestArraysReadBack: pgx's own codecs read what the arrays of a batch write, and so does
// readBigints.
func TestArraysReadBack(t *testing.T) {
	t.Parallel()
	taught := pgtype.NewMap()
	teachArrays(taught)
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 200).Draw(t, "length")
		back := func(oid uint32, sent, got any) []byte {
			b, err := taught.Encode(oid, pgtype.BinaryFormatCode, sent, []byte("before"))
			require.NoError(t, err)
			require.Equal(t, "before", string(b[:6]))
			require.NoError(t, pgtype.NewMap().Scan(oid, pgtype.BinaryFormatCode, b[6:], got))
			return b[6:]
		}
		var strings []string
		all := rapid.SliceOfN(rapid.String(), n, n).Draw(t, "texts")
		back(pgtype.TextArrayOID, texts(all), &strings)
		require.Equal(t, all, strings)

		var maybe []pgtype.Text
		back(pgtype.TextArrayOID, maybeTexts(all), &maybe)
		for i, s := range all {
			require.Equal(t, pgtype.Text{String: s, Valid: s != ""}, maybe[i])
		}

		var ids []uuid.UUID
		sent := make(uuids, n)
		for i := range sent {
			sent[i] = uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
		}
		back(pgtype.UUIDArrayOID, sent, &ids)
		require.Equal(t, []uuid.UUID(sent), ids)

		var small []int16
		s := rapid.SliceOfN(rapid.Int16(), n, n).Draw(t, "smallints")
		back(pgtype.Int2ArrayOID, smallints(s), &small)
		require.Equal(t, s, small)

		var whole []int32
		w := rapid.SliceOfN(rapid.Int32(), n, n).Draw(t, "integers")
		back(pgtype.Int4ArrayOID, integers(w), &whole)
		require.Equal(t, w, whole)

		var big []int64
		b := rapid.SliceOfN(rapid.Int64(), n, n).Draw(t, "bigints")
		wire := back(pgtype.Int8ArrayOID, bigints(b), &big)
		require.Equal(t, b, big)
		read, err := readBigints(wire)
		require.NoError(t, err)
		require.Equal(t, bigints(b), read)
	})
}

// TestReadBigintsRefuses what is no array of them.
func TestReadBigintsRefuses(t *testing.T) {
	t.Parallel()
	good := bigints{math.MinInt64, 0, math.MaxInt64}.appendTo(nil)
	for n := range len(good) {
		if n != 20 && n != 32 && n != 44 {
			_, err := readBigints(good[:n])
			require.Error(t, err, "%d bytes", n)
		}
	}
	null := maybeTexts{""}.appendTo(nil)
	_, err := readBigints(append(null, make([]byte, 8)...))
	require.ErrorContains(t, err, "-1 bytes")
}
