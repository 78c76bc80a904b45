package api_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/restock-dev/restock/internal/localpg/pgtest"
	"github.com/restock-dev/restock/schema"
)

// A session keeps its plans. Those that it made while the statistics said two products have to
// do once a catalogue is imported: nothing makes them anew before the table is analyzed.
func TestPlansOutliveASmallShop(t *testing.T) {
	t.Parallel()
	const imported = 20000
	db := pgtest.NewDatabase(t, storeTemplate)
	t.Run("an API while a catalogue is imported", func(t *testing.T) {
		s := shopOn(t, db.DSN, db.RoleDSN(schema.RoleAPI, password))
		s.exec(`ALTER TABLE products SET (autovacuum_enabled = false)`)
		s.exec(`ANALYZE products`)
		everything := func() {
			for _, body := range []string{
				`{"sku":"` + cream + `"}`,                                                    // checkout_alone
				`{"items":[{"sku":"` + cream + `"}]}`,                                        // of checkout_batch, what is for one product
				`{"items":[{"sku":"` + cream + `"},{"sku":"` + donut + `","quantity":500}]}`, // is short
				`{"items":[{"sku":"` + cream + `"},{"sku":"nothing"}]}`,
			} {
				s.checkout(body)
			}
			require.Equal(t, http.StatusOK, s.send(http.MethodGet, "/products/"+cream, "").status)
			require.Equal(t, http.StatusOK, s.send(http.MethodGet, "/products?limit=2", "").status)
		}
		everything()
		var catalogue []string
		for n := range imported {
			catalogue = append(catalogue, fmt.Sprint("P", n))
		}
		s.offer(catalogue...)
		everything()
	})
	owner, err := pgxpool.New(t.Context(), db.DSN)
	require.NoError(t, err)
	t.Cleanup(owner.Close)
	s := &shop{t: t, db: owner}
	require.Eventually(t, func() bool { // a session tells what it read when it ends
		return one[int](s, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'restock api'`) == 0
	}, time.Minute, 10*time.Millisecond)
	require.Less(t, one[int](s, `SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'products'`), imported)
}
