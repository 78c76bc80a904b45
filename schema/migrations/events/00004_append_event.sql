-- The only statement that writes an outbox row. It stamps the body's time from
-- the same clock that chooses the row's day, so that a consumer that sees only
-- the body finds the day that the event's rows are kept under. It is in plpgsql,
-- which keeps the plan of its INSERT for the session: a function in SQL plans it
-- again at each call, and planning for a partitioned table costs more than the row.

-- +goose Up
-- +goose StatementBegin
CREATE FUNCTION append_event(p_id uuid, p_type text, p_group text, p_subject text, p_attributes jsonb, p_body text, p_traceparent text)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO outbox (id, type, message_group, subject, attributes, body, traceparent)
    VALUES (p_id, p_type, p_group, p_subject, p_attributes,
            '{"time":"' || to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') || '"'
                || CASE WHEN p_body ~ '^\{\s*\}$' THEN '}' ELSE ',' || substr(p_body, 2) END,
            p_traceparent);
END $$;
-- +goose StatementEnd
