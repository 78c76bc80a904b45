-- One checkout in one round trip and one transaction: stock, order, event.
--
-- The fast path takes stock in one UPDATE. Where that matches nothing, a
-- refusal is decided only in a later statement with the product's row locked:
-- an UPDATE that matched nothing may have looked before a delivery committed,
-- and refusing on its word would order production while there is stock.
--
-- 'short' names the replenishment that is open for the product or that the
-- factory refused within the cool-down. Where there is none the outcome is
-- 'depleted' and nothing is written: the caller opens one, in a transaction of
-- its own, and decides again under the lock.

-- +goose Up

-- The replenishment that a failing checkout is told of: the open one, else one
-- refused within the cool-down. Two look-ups by index, because a product that
-- sells has a long history and this runs under its lock. The caller holds that
-- lock and calls in a statement of its own, so that it sees all that was
-- committed before.
-- +goose StatementBegin
CREATE FUNCTION standing_replenishment(p_sku text, p_cooldown interval) RETURNS uuid LANGUAGE plpgsql AS $$
BEGIN
    RETURN coalesce(
        (SELECT id FROM replenishments WHERE sku = p_sku AND state IN ('requested', 'accepted')),
        (SELECT id FROM replenishments WHERE sku = p_sku AND state = 'refused' AND closed_at > now() - p_cooldown
          ORDER BY closed_at DESC LIMIT 1));
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION checkout(
    p_order uuid, p_sku text, p_quantity integer, p_customer text, p_cooldown interval,
    p_event uuid, p_type text, p_group text, p_subject text, p_attributes jsonb, p_body text, p_traceparent text,
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
    PERFORM append_event(p_event, p_type, p_group, p_subject, p_attributes, p_body, p_traceparent);
END $$;
-- +goose StatementEnd
