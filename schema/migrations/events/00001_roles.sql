-- Each part of Restock has a role of its own, with the rights that it uses and
-- no more. Roles belong to the cluster, not to the database, so each is created
-- only where it is missing; two databases migrated at once may both try. They
-- get no password here: without one nobody can log in over scram, and setting
-- one is the operator's act.
--
-- REPLICATION lets the relay read a slot. Managed services that keep the
-- attribute to themselves hand it out as membership of rds_replication.
-- https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/PostgreSQL.Concepts.General.FeatureSupport.LogicalReplication.html

-- +goose Up
-- +goose StatementBegin
DO $$
DECLARE
    managed boolean := EXISTS (SELECT FROM pg_roles WHERE rolname = 'rds_replication');
    name    text;
    options text;
BEGIN
    FOREACH name IN ARRAY ARRAY['restock_api', 'restock_relay', 'restock_consumers', 'restock_maintenance'] LOOP
        CONTINUE WHEN EXISTS (SELECT FROM pg_roles WHERE rolname = name);
        options := CASE WHEN name = 'restock_relay' AND NOT managed THEN 'LOGIN REPLICATION' ELSE 'LOGIN' END;
        BEGIN
            EXECUTE format('CREATE ROLE %I %s', name, options);
            IF name = 'restock_relay' AND managed THEN
                EXECUTE 'GRANT rds_replication TO restock_relay';
            END IF;
        EXCEPTION
            WHEN duplicate_object OR unique_violation THEN NULL; -- the other database's migration won
            WHEN insufficient_privilege THEN
                RAISE EXCEPTION 'role % does not exist and % may not create it', name, current_user
                    USING HINT = format('As an administrator run: CREATE ROLE %I %s; then migrate again.', name, options);
        END;
    END LOOP;
END $$;
-- +goose StatementEnd
