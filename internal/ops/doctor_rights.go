package ops

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/restock-dev/restock/schema"
)

// right is what a role must be able to do with a table, or must not.
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
	{schema.RoleRelay, "ledger", []string{"SELECT", "INSERT"}, []string{"DELETE", "TRUNCATE"}},
	{schema.RoleRelay, "parked", []string{"SELECT", "INSERT"}, []string{"DELETE", "TRUNCATE"}},
	{schema.RoleRelay, "parked_groups", []string{"SELECT", "INSERT", "UPDATE", "DELETE"}, nil},
	{schema.RoleRelay, "watermarks", []string{"SELECT", "INSERT", "UPDATE"}, nil},
	{schema.RoleRelay, "shards", []string{"SELECT"}, []string{"INSERT", "UPDATE", "DELETE"}},
	{schema.RoleRelay, "replay_shards", []string{"SELECT", "INSERT", "UPDATE"}, nil},
	{schema.RoleMaintenance, "shards", []string{"SELECT"}, nil},
	{schema.RoleMaintenance, "outbox", []string{"SELECT"}, changes},
	{schema.RoleMaintenance, "ledger", []string{"SELECT"}, nil},
	{schema.RoleMaintenance, "parked", []string{"SELECT"}, nil},
	{schema.RoleMaintenance, "inbox", []string{"SELECT"}, nil},
	{schema.RoleMaintenance, "effects", []string{"SELECT"}, nil},
}

var storeRights = slices.Concat(eventRights, []right{
	{schema.RoleAPI, "outbox", []string{"INSERT"}, changes},
	{schema.RoleAPI, "products", []string{"SELECT"}, []string{"DELETE"}},
	{schema.RoleAPI, "orders", []string{"SELECT", "INSERT"}, changes},
	{schema.RoleAPI, "order_lines", []string{"SELECT", "INSERT"}, changes},
	{schema.RoleAPI, "idempotency_keys", []string{"SELECT", "INSERT"}, changes},
	{schema.RoleAPI, "replenishments", []string{"SELECT", "INSERT"}, []string{"DELETE"}},
	{schema.RoleConsumers, "outbox", nil, changes},
	{schema.RoleConsumers, "inbox", []string{"SELECT", "INSERT", "UPDATE"}, []string{"DELETE"}},
	{schema.RoleConsumers, "effects", []string{"SELECT", "INSERT"}, changes},
	{schema.RoleConsumers, "replenishments", []string{"SELECT", "UPDATE"}, nil},
	{schema.RoleConsumers, "ads_mails", []string{"SELECT", "INSERT"}, nil},
})

var customersRights = slices.Concat(eventRights, []right{
	{schema.RoleCustomers, "outbox", []string{"INSERT"}, changes},
	{schema.RoleCustomers, "inbox", []string{"SELECT", "INSERT", "UPDATE"}, []string{"DELETE"}},
	{schema.RoleCustomers, "effects", []string{"SELECT", "INSERT"}, changes},
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
	var roles, tables, privileges []string
	var wanted []bool
	for _, r := range rights {
		for _, list := range []struct {
			privileges []string
			want       bool
		}{{r.may, true}, {r.mayNot, false}} {
			for _, p := range list.privileges {
				roles, tables, privileges, wanted = append(roles, r.role), append(tables, r.table), append(privileges, p), append(wanted, list.want)
			}
		}
	}
	// A role or a table that is missing is another check's.
	rows, err := s.db.Pool.Query(ctx, `SELECT k.role, k.name, k.privilege, k.wanted
		FROM unnest($1::text[], $2::text[], $3::text[], $4::boolean[]) AS k (role, name, privilege, wanted)
		JOIN pg_roles r ON r.rolname = k.role AND NOT r.rolsuper JOIN pg_class c ON c.oid = to_regclass('public.' || k.name)
		WHERE has_table_privilege(r.oid, c.oid, k.privilege) <> k.wanted`, roles, tables, privileges, wanted)
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
	if found == 0 {
		s.ok("rights", "each role has what it needs, and the outbox is insert only")
	}
	return nil
}
