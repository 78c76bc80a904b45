-- checkout_batch as before (00007_checkout_batch.sql says what it takes and returns), which
-- changes the rows that it has locked where they are, and does not look for each in the
-- index a second time. A row that is locked stays where it is; where products had parts or
-- heirs its place would not tell which of them it is in.

-- +goose Up
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION checkout_batch(
    p_skus text[], p_wanted bigint[], p_most integer[],
    p_orders uuid[], p_customers text[], p_firsts integer[], p_lines integer[], p_units integer[],
    p_products integer[], p_quantities integer[], p_after bigint[],
    p_events uuid[], p_type text, p_groups text[], p_buckets smallint[], p_attributes text[], p_bodies text[], p_traceparents text[],
    p_scopes text[], p_keys text[], p_fingerprints bytea[], p_cooldown interval,
    OUT outcomes text[],         -- of each request
    OUT faults integer[],        -- the line that is unknown or over its limit, from 1
    OUT statuses smallint[], OUT languages text[], OUT answers text[], -- of repeated
    OUT remaining bigint[],      -- of each line: units left
    OUT replenishments uuid[],   -- of each line of a short request that is short itself
    OUT limits integer[],        -- of each product
    OUT stocks bigint[])         -- of each product: units left
LANGUAGE plpgsql AS $$
DECLARE
    sums     boolean := true;    -- every request may be granted
    claimed  boolean[];
    have     bigint[];           -- of each product, as the requests are decided
    leftover bigint[];           -- of each product, if every request is granted
    standing uuid[];
    had      bigint[];           -- of each product, when it was locked
    locked   tid[];              -- of each product, where its row is
    changed  bigint;             -- products
    is_short boolean[];          -- of each line
    looked   boolean[];          -- for the product's standing replenishment
    stamp    text;               -- how every event's body begins
    done     boolean := false;   -- the stocks are changed
    kept     record;
    product  integer;
BEGIN
    IF p_keys IS NOT NULL THEN
        outcomes := array_fill(NULL::text, ARRAY[cardinality(p_orders)]);
        statuses := array_fill(NULL::smallint, ARRAY[cardinality(p_orders)]);
        languages := array_fill(NULL::text, ARRAY[cardinality(p_orders)]);
        answers := languages;
        claimed := ARRAY(SELECT k.key IS NULL OR pg_try_advisory_xact_lock(hashtextextended(k.key, hashtextextended(k.scope, 0)))
                           FROM unnest(p_scopes, p_keys) WITH ORDINALITY AS k (scope, key, place) ORDER BY k.place);
        -- After the locks, so that it sees what their last holders committed. Lateral,
        -- so that a plan that was made while the table was empty looks up all the same.
        FOR kept IN SELECT k.place::integer, k.fingerprint = i.fingerprint AS same, i.status, i.language, i.answer
                      FROM unnest(p_scopes, p_keys, p_fingerprints) WITH ORDINALITY AS k (scope, key, fingerprint, place)
                      JOIN LATERAL (SELECT * FROM idempotency_keys WHERE scope = k.scope AND key = k.key LIMIT 1) i ON true LOOP
            sums := false;
            outcomes[kept.place] := CASE WHEN kept.same THEN 'repeated' ELSE 'mismatch' END;
            statuses[kept.place] := kept.status;
            languages[kept.place] := kept.language;
            answers[kept.place] := kept.answer;
        END LOOP;
        IF false = ANY (claimed) THEN
            sums := false;
            outcomes := ARRAY(SELECT CASE WHEN o.outcome IS NULL AND NOT o.claimed THEN 'in-progress' ELSE o.outcome END
                                FROM unnest(outcomes, claimed) WITH ORDINALITY AS o (outcome, claimed, place) ORDER BY o.place);
        END IF;
        IF NOT sums AND array_position(outcomes, NULL) IS NULL THEN
            RETURN;
        END IF;
    END IF;

    -- A rush is for one product. Where that has enough, one statement says so and takes
    -- it; where it has not, that is decided below, under the lock.
    IF sums AND cardinality(p_skus) = 1 THEN
        UPDATE products SET stock = stock - p_wanted[1]
         WHERE sku = p_skus[1] AND stock >= p_wanted[1] AND max_order_quantity >= p_most[1]
        RETURNING ARRAY[stock] INTO leftover;
        done := FOUND;
    END IF;
    IF NOT done THEN
        SELECT array_agg(p.stock), array_agg(p.max_order_quantity), array_agg(p.stock - p.wanted),
               sums AND bool_and(coalesce(p.stock >= p.wanted AND p.max_order_quantity >= p.most, false)), array_agg(p.spot)
          INTO have, limits, leftover, sums, locked
          FROM (SELECT l.stock, l.max_order_quantity, l.spot, s.wanted, s.most
                  FROM unnest(p_skus, p_wanted, p_most) WITH ORDINALITY AS s (sku, wanted, most, place)
                  LEFT JOIN LATERAL (SELECT stock, max_order_quantity, ctid AS spot FROM products WHERE products.sku = s.sku FOR NO KEY UPDATE) l ON true
                 ORDER BY s.place) p;
    END IF;

    IF sums THEN
        have := leftover;
        stocks := leftover;
        outcomes := NULL;
    ELSE
        had := have;
        outcomes := coalesce(outcomes, array_fill(NULL::text, ARRAY[cardinality(p_orders)]));
        faults := array_fill(NULL::integer, ARRAY[cardinality(p_orders)]);
        remaining := array_fill(NULL::bigint, ARRAY[cardinality(p_products)]);
        replenishments := array_fill(NULL::uuid, ARRAY[cardinality(p_products)]);
        is_short := array_fill(false, ARRAY[cardinality(p_products)]);
        FOR r IN 1 .. cardinality(p_orders) LOOP
            IF outcomes[r] IS NULL THEN
                outcomes[r] := 'bought';
                FOR l IN p_firsts[r] .. p_firsts[r] + p_lines[r] - 1 LOOP
                    product := p_products[l];
                    IF have[product] IS NULL THEN
                        outcomes[r] := 'unknown';
                        faults[r] := l - p_firsts[r] + 1;
                        EXIT;
                    ELSIF p_quantities[l] > limits[product] THEN
                        IF outcomes[r] <> 'over-limit' THEN
                            outcomes[r] := 'over-limit';
                            faults[r] := l - p_firsts[r] + 1;
                        END IF;
                    ELSIF p_quantities[l] > have[product] THEN
                        is_short[l] := true;
                        IF outcomes[r] = 'bought' THEN
                            outcomes[r] := 'short';
                        END IF;
                    END IF;
                END LOOP;
                FOR l IN p_firsts[r] .. p_firsts[r] + p_lines[r] - 1 LOOP
                    product := p_products[l];
                    IF outcomes[r] = 'bought' THEN
                        have[product] := have[product] - p_quantities[l];
                    END IF;
                    remaining[l] := have[product];
                END LOOP;
            END IF;
        END LOOP;

        -- One look for each product that was short, under its lock.
        standing := array_fill(NULL::uuid, ARRAY[cardinality(p_skus)]);
        looked := array_fill(false, ARRAY[cardinality(p_skus)]);
        FOR r IN 1 .. cardinality(p_orders) LOOP
            IF outcomes[r] = 'short' THEN
                FOR l IN p_firsts[r] .. p_firsts[r] + p_lines[r] - 1 LOOP
                    CONTINUE WHEN NOT is_short[l];
                    product := p_products[l];
                    IF NOT looked[product] THEN
                        standing[product] := standing_replenishment(p_skus[product], p_cooldown);
                        looked[product] := true;
                    END IF;
                    replenishments[l] := standing[product];
                    IF standing[product] IS NULL THEN
                        outcomes[r] := 'depleted';
                    END IF;
                END LOOP;
            END IF;
        END LOOP;
        IF array_position(outcomes, 'bought') IS NULL THEN
            RETURN;
        END IF;
    END IF;

    IF NOT done THEN
        UPDATE products SET stock = h.stock FROM unnest(locked, have) AS h (spot, stock)
         WHERE products.ctid = h.spot AND products.stock <> h.stock;
        GET DIAGNOSTICS changed = ROW_COUNT;
        -- Orders whose stock was not taken would be an oversell.
        IF changed <> (CASE WHEN sums THEN cardinality(p_skus) ELSE (SELECT count(*) FROM unnest(had, have) AS h (before, after) WHERE before <> after) END) THEN
            RAISE 'the stock of % products was to change, of % it did', cardinality(p_skus), changed;
        END IF;
    END IF;
    -- Arrays are taken apart by place: as arguments of a plpgsql function they are kept so
    -- that each place is found at once, and unnest would write each of them to a table.
    INSERT INTO orders (id, sku, quantity, customer_id, remaining_stock)
    SELECT p_orders[r], CASE WHEN p_lines[r] = 1 THEN p_skus[p_products[p_firsts[r]]] END, p_units[r], p_customers[r],
           CASE WHEN p_lines[r] = 1 THEN coalesce(remaining[p_firsts[r]], have[p_products[p_firsts[r]]] + p_after[p_firsts[r]]) END
      FROM generate_series(1, cardinality(p_orders)) r
     WHERE sums OR outcomes[r] = 'bought';
    IF cardinality(p_products) > cardinality(p_orders) THEN
        INSERT INTO order_lines (order_id, place, sku, quantity, remaining_stock)
        SELECT p_orders[r], l - p_firsts[r] + 1, p_skus[p_products[l]], p_quantities[l], coalesce(remaining[l], have[p_products[l]] + p_after[l])
          FROM generate_series(1, cardinality(p_orders)) r, generate_series(p_firsts[r], p_firsts[r] + p_lines[r] - 1) l
         WHERE (sums OR outcomes[r] = 'bought') AND p_lines[r] > 1;
    END IF;
    -- What append_event does for one. The checks of the outbox are read anew by
    -- each INSERT, so one for all saves as much as the rows themselves cost.
    stamp := '{"time":"' || to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') || '",';
    INSERT INTO outbox (id, type, message_group, bucket, attributes, body, traceparent)
    SELECT p_events[r], p_type, p_groups[r], p_buckets[r], p_attributes[r]::jsonb, stamp || right(p_bodies[r], -1), p_traceparents[r]
      FROM generate_series(1, cardinality(p_orders)) r
     WHERE sums OR outcomes[r] = 'bought';
END $$;
-- +goose StatementEnd
