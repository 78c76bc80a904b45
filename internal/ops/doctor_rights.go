package ops

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/restock-dev/restock/schema"
)

// right is what a role must be able to do with a table, or must not. What it must with some
// columns only has these behind it, as in GRANT.
type right struct {
	role, table string
	may         []string
	mayNot      []string
}

// changes are what nobody but the owner may do with an outbox.
var changes = []string{"UPDATE", "DELETE", "TRUNCATE"}

// eventRights are those of the roles that every database with an outbox has.
var eventRights = []right{
	{schema.RoleRelay, "outbox", []string{"SELECT"}, changes},
	{schema.RoleRelay, "ledger", []string{"SELECT", "INSERT", "UPDATE (outcome, message_id, sequence_number, published_at)"}, []string{"DELETE", "TRUNCATE"}},
	{schema.RoleRelay, "parked", []string{"SELECT", "INSERT", "UPDATE (reason, detail, state, asked_by, asked_at, resolved_at)"}, []string{"DELETE", "TRUNCATE"}},
	{schema.RoleRelay, "parked_groups", []string{"SELECT", "INSERT", "UPDATE", "DELETE"}, nil},
	{schema.RoleRelay, "watermarks", []string{"SELECT", "INSERT", "UPDATE"}, nil},
	{schema.RoleRelay, "shards", []string{"SELECT"}, []string{"INSERT", "UPDATE", "DELETE"}},
	{schema.RoleRelay, "replays", []string{"SELECT", "UPDATE (state, done, started_at, ended_at)"}, nil},
	{schema.RoleRelay, "replay_items", []string{"SELECT", "UPDATE (error)"}, nil},
	{schema.RoleRelay, "replay_shards", []string{"SELECT", "INSERT", "UPDATE"}, nil},
	{schema.RoleMaintenance, "shards", []string{"SELECT"}, nil},
	{schema.RoleMaintenance, "outbox", []string{"SELECT"}, changes},
	{schema.RoleMaintenance, "ledger", []string{"SELECT"}, nil},
	{schema.RoleMaintenance, "parked", []string{"SELECT", "UPDATE (state, asked_by, asked_at, note, resolved_at)"}, nil},
	{schema.RoleMaintenance, "parked_groups", []string{"SELECT", "UPDATE (state, asked_by, asked_at)"}, nil},
	{schema.RoleMaintenance, "watermarks", []string{"SELECT"}, nil},
	{schema.RoleMaintenance, "inbox", []string{"SELECT", "UPDATE (state, attempt, redrive_id, updated_at)"}, nil},
	{schema.RoleMaintenance, "effects", []string{"SELECT"}, nil},
	{schema.RoleMaintenance, "replays", []string{"SELECT", "INSERT", "UPDATE (state, cancelled_by, resumed_by, ended_at)"}, nil},
	{schema.RoleMaintenance, "replay_items", []string{"SELECT", "INSERT"}, nil},
}

var storeRights = slices.Concat(eventRights, []right{
	{schema.RoleAPI, "outbox", []string{"INSERT"}, changes},
	{schema.RoleAPI, "products", []string{"SELECT", "UPDATE (stock)"}, []string{"DELETE"}},
	{schema.RoleAPI, "orders", []string{"SELECT", "INSERT"}, changes},
	{schema.RoleAPI, "order_lines", []string{"SELECT", "INSERT"}, changes},
	{schema.RoleAPI, "idempotency_keys", []string{"SELECT", "INSERT"}, changes},
	{schema.RoleAPI, "replenishments", []string{"SELECT", "INSERT", "UPDATE (state, delivered_quantity, delivered_at, closed_at)"}, []string{"DELETE"}},
	{schema.RoleConsumers, "outbox", nil, changes},
	{schema.RoleConsumers, "inbox", []string{"SELECT", "INSERT", "UPDATE"}, []string{"DELETE"}},
	{schema.RoleConsumers, "effects", []string{"SELECT", "INSERT"}, changes},
	{schema.RoleConsumers, "replenishments", []string{"SELECT", "UPDATE"}, nil},
	{schema.RoleConsumers, "ads_mails", []string{"SELECT", "INSERT"}, nil},
	{schema.RoleMaintenance, "orders", []string{"SELECT"}, nil},
	{schema.RoleMaintenance, "replenishments", []string{"SELECT", "UPDATE (state, production_id, accepted_at, closed_at)"}, nil},
	{schema.RoleMaintenance, "replenishment_acts", []string{"SELECT", "INSERT"}, nil},
})

var customersRights = slices.Concat(eventRights, []right{
	{schema.RoleCustomers, "outbox", []string{"INSERT"}, changes},
	{schema.RoleCustomers, "inbox", []string{"SELECT", "INSERT", "UPDATE"}, []string{"DELETE"}},
	{schema.RoleCustomers, "effects", []string{"SELECT", "INSERT"}, changes},
	{schema.RoleCustomers, "customers", []string{"UPDATE (type, promoted_at, promoted_by_order)"}, nil},
})

// roles checks that the roles exist, and that the relay's may read a slot.
func (s databaseSubject) roles(ctx context.Context) error {
	wanted := []string{schema.RoleAPI, schema.RoleRelay, schema.RoleConsumers, schema.RoleMaintenance}
	if s.name == "customers" {
		wanted = []string{schema.RoleRelay, schema.RoleCustomers, schema.RoleMaintenance}
	}
	var there []string
	var replicates bool
	err := s.db.Pool.QueryRow(ctx, `SELECT ARRAY(SELECT rolname::text FROM pg_roles WHERE rolname = ANY($1)),
		EXISTS (SELECT FROM pg_roles r WHERE r.rolname = $2 AND (r.rolreplication OR r.rolsuper
			OR EXISTS (SELECT FROM pg_roles g WHERE g.rolname = 'rds_replication' AND pg_has_role(r.oid, g.oid, 'member'))))`, wanted, schema.RoleRelay).Scan(&there, &replicates)
	if err != nil {
		return fmt.Errorf("list the roles: %w", err)
	}
	missing := slices.DeleteFunc(slices.Clone(wanted), func(role string) bool { return slices.Contains(there, role) })
	switch {
	case len(missing) > 0:
		s.fail("roles", "restock migrate", "%s missing", strings.Join(missing, ", "))
	case !replicates:
		s.fail("roles", "ALTER ROLE "+schema.RoleRelay+" REPLICATION; on RDS: GRANT rds_replication TO "+schema.RoleRelay+";", "%s may not read a slot", schema.RoleRelay)
	default:
		s.ok("roles", "%s", strings.Join(wanted, ", "))
	}
	return nil
}

// rights checks what the roles may do, and what they must not be able to do.
func (s databaseSubject) rights(ctx context.Context, rights []right) error {
	var roles, tables, privileges, columns []string
	var wanted []bool
	for _, r := range rights {
		for _, list := range []struct {
			privileges []string
			want       bool
		}{{r.may, true}, {r.mayNot, false}} {
			for _, p := range list.privileges {
				p, some, _ := strings.Cut(strings.TrimSuffix(p, ")"), " (")
				roles, tables, privileges = append(roles, r.role), append(tables, r.table), append(privileges, p)
				columns, wanted = append(columns, some), append(wanted, list.want)
			}
		}
	}
	// A role or a table that is missing is another check's. Too much is a right on one column.
	rows, err := s.db.Pool.Query(ctx, `SELECT k.role, k.name, k.privilege || CASE WHEN k.columns = '' THEN '' ELSE ' (' || k.columns || ')' END, k.wanted
		FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::boolean[]) AS k (role, name, privilege, columns, wanted)
		JOIN pg_roles r ON r.rolname = k.role AND NOT r.rolsuper JOIN pg_class c ON c.oid = to_regclass('public.' || k.name)
		WHERE k.wanted <> CASE
			WHEN k.columns <> '' THEN (SELECT bool_and(has_column_privilege(r.oid, c.oid, a.attnum, k.privilege))
				FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = ANY (string_to_array(k.columns, ', ')))
			WHEN k.wanted OR k.privilege IN ('DELETE', 'TRUNCATE') THEN has_table_privilege(r.oid, c.oid, k.privilege)
			ELSE has_any_column_privilege(r.oid, c.oid, k.privilege) END`, roles, tables, privileges, columns, wanted)
	if err != nil {
		return fmt.Errorf("look at the roles' rights: %w", err)
	}
	var role, table, privilege string
	var want bool
	found := 0
	_, err = pgx.ForEachRow(rows, []any{&role, &table, &privilege, &want}, func() error {
		found++
		if want {
			s.fail("rights", fmt.Sprintf("GRANT %s ON %s TO %s;", privilege, table, role), "%s may not %s %s", role, privilege, table)
		} else {
			s.warn("rights", fmt.Sprintf("REVOKE %s ON %s FROM %s;", privilege, table, role), "%s may %s %s, which no part of Restock does", role, privilege, table)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("look at the roles' rights: %w", err)
	}
	creators, err := s.creators(ctx, roles)
	if err != nil {
		return err
	}
	if len(creators) > 0 {
		list := strings.Join(creators, ", ")
		s.warn("rights", "REVOKE CREATE ON SCHEMA public FROM PUBLIC, "+list+";", "%s may create in the schema public, and what stands there may be called by the others and by the owner", list)
	}
	if found == 0 && len(creators) == 0 {
		s.ok("rights", "each role has what it needs, and the outbox is insert only")
	}
	return nil
}

// creators are those of the roles that may create in public. In a database that was made
// before Postgres 15 everybody may.
func (s databaseSubject) creators(ctx context.Context, roles []string) ([]string, error) {
	rows, err := s.db.Pool.Query(ctx, `SELECT rolname::text FROM pg_roles
		WHERE rolname = ANY($1) AND NOT rolsuper AND has_schema_privilege(oid, 'public', 'CREATE') ORDER BY rolname`, roles)
	if err != nil {
		return nil, fmt.Errorf("look who may create in public: %w", err)
	}
	creators, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("look who may create in public: %w", err)
	}
	return creators, nil
}
