-- A checkout that is decided alone, as checkout does it (00002_checkout.sql says what it
-- decides), with less to do: the caller names the event's bucket, and the row is written
-- here and not by append_event, whose call and whose look for an empty body took a
-- fifteenth of the whole. The function checkout stays, for an API of before.

-- +goose Up
-- +goose StatementBegin
CREATE FUNCTION checkout_alone(
    p_order uuid, p_sku text, p_quantity integer, p_customer text, p_cooldown interval,
    p_event uuid, p_type text, p_group text, p_bucket smallint, p_attributes jsonb, p_body text, p_traceparent text,
    OUT outcome text, OUT remaining bigint, OUT replenishment uuid, OUT max_quantity integer)
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE products SET stock = stock - p_quantity
     WHERE sku = p_sku AND stock >= p_quantity AND max_order_quantity >= p_quantity
    RETURNING stock INTO remaining;
    IF NOT FOUND THEN
        SELECT stock, max_order_quantity INTO remaining, max_quantity FROM products WHERE sku = p_sku FOR UPDATE;
        IF NOT FOUND THEN
            outcome := 'unknown';
            RETURN;
        END IF;
        IF p_quantity > max_quantity THEN
            outcome := 'over-limit';
            RETURN;
        END IF;
        IF remaining < p_quantity THEN
            replenishment := standing_replenishment(p_sku, p_cooldown);
            outcome := CASE WHEN replenishment IS NULL THEN 'depleted' ELSE 'short' END;
            RETURN;
        END IF;
        UPDATE products SET stock = stock - p_quantity WHERE sku = p_sku RETURNING stock INTO remaining;
    END IF;
    outcome := 'bought';
    INSERT INTO orders (id, sku, quantity, customer_id, remaining_stock)
    VALUES (p_order, p_sku, p_quantity, p_customer, remaining);
    INSERT INTO outbox (id, type, message_group, bucket, attributes, body, traceparent)
    VALUES (p_event, p_type, p_group, p_bucket, p_attributes,
            '{"time":"' || to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') || '",' || right(p_body, -1), p_traceparent);
END $$;
-- +goose StatementEnd
