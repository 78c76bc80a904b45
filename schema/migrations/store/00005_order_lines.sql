-- An order of several products. One of a single product, which most are, stays one
-- row of orders: a second row for each would cost a sixth of all checkouts. So
-- sku and remaining_stock are of the only line, and NULL where there are several.

-- +goose Up
ALTER TABLE orders
    ALTER COLUMN sku DROP NOT NULL,
    ALTER COLUMN remaining_stock DROP NOT NULL,
    ADD CONSTRAINT orders_only_line CHECK ((sku IS NULL) = (remaining_stock IS NULL));

CREATE TABLE order_lines (
    order_id        uuid     NOT NULL REFERENCES orders,
    place           smallint NOT NULL CHECK (place > 0),
    sku             text     NOT NULL REFERENCES products,
    quantity        integer  NOT NULL CHECK (quantity > 0),
    remaining_stock bigint   NOT NULL CHECK (remaining_stock >= 0),
    PRIMARY KEY (order_id, place)
);

-- The lines of every order, however they are kept.
CREATE VIEW all_order_lines AS
    SELECT id AS order_id, 1::smallint AS place, sku, quantity, remaining_stock FROM orders WHERE sku IS NOT NULL
    UNION ALL
    SELECT order_id, place, sku, quantity, remaining_stock FROM order_lines;

GRANT SELECT, INSERT ON order_lines TO restock_api;
GRANT SELECT ON all_order_lines TO restock_api;
GRANT SELECT ON order_lines, all_order_lines TO restock_maintenance;
