-- Partitions are made ahead, by every part at its start and hourly, so that
-- midnight never finds one missing. SECURITY DEFINER lets the least of roles
-- call it. CREATE + ATTACH, because CREATE TABLE … PARTITION OF takes an ACCESS
-- EXCLUSIVE lock on the parent and waits behind every open insert, while ATTACH
-- takes SHARE UPDATE EXCLUSIVE, which inserts do not mind.
-- https://www.postgresql.org/docs/15/ddl-partitioning.html

-- +goose Up
-- +goose StatementBegin
CREATE FUNCTION ensure_partitions(ahead integer DEFAULT 14) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    today  date := (now() AT TIME ZONE 'UTC')::date;
    parent text;
    d      date;
    part   text;
    made   integer := 0;
BEGIN
    IF ahead NOT BETWEEN 0 AND 366 THEN
        RAISE EXCEPTION 'ensure_partitions: ahead is %, want 0 to 366 days', ahead;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('restock:ensure_partitions', 0));
    FOREACH parent IN ARRAY ARRAY['outbox', 'ledger', 'parked', 'inbox', 'effects'] LOOP
        FOR d IN SELECT generate_series(today - 1, today + ahead, interval '1 day')::date LOOP
            part := format('%s_%s', parent, to_char(d, 'YYYYMMDD'));
            CONTINUE WHEN EXISTS (SELECT FROM pg_class WHERE relname = part AND relnamespace = 'public'::regnamespace);
            EXECUTE format('CREATE TABLE public.%I (LIKE public.%I INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)', part, parent);
            EXECUTE format('ALTER TABLE public.%I ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)', parent, part, d, d + 1);
            made := made + 1;
        END LOOP;
    END LOOP;
    RETURN made;
END $$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION ensure_partitions(integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ensure_partitions(integer) TO restock_api, restock_relay, restock_consumers, restock_maintenance;
SELECT ensure_partitions();
