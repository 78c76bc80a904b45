-- An inbox may be younger than the events that come to it. A customers database that was
-- made anew is given the orders of weeks by a replay, and one that was away for weeks
-- finds days in its queue for which it has no partition: ensure_partitions looks ahead
-- only. A partition of an inbox stays for 45 days (restock maintain), so one that is
-- missing of a later day was never there, and nothing of that day was handled here: it
-- can be made. Of an earlier day nobody knows any more.

-- +goose Up
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION ensure_inbox_day(d date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    today  date := (now() AT TIME ZONE 'UTC')::date;
    parent text;
    part   text;
BEGIN
    IF d IS NULL OR d NOT BETWEEN today - 45 AND today THEN
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('restock:ensure_partitions', 0));
    FOREACH parent IN ARRAY ARRAY['inbox', 'effects'] LOOP
        part := format('%s_%s', parent, to_char(d, 'YYYYMMDD'));
        CONTINUE WHEN EXISTS (SELECT FROM pg_class WHERE relname = part AND relnamespace = 'public'::regnamespace);
        EXECUTE format('CREATE TABLE public.%I (LIKE public.%I INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)', part, parent);
        EXECUTE format('ALTER TABLE public.%I ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)', parent, part, d, d + 1);
    END LOOP;
END $$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION ensure_inbox_day(date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ensure_inbox_day(date) TO restock_consumers;
