-- The shop. Stock can never go below zero, whatever the code does, and one SKU
-- has at most one open replenishment: both are held here, not only above.
-- Units sold plus units left is initial_stock plus units delivered, always.

-- +goose Up
CREATE TABLE products (
    sku                text    PRIMARY KEY CHECK (octet_length(sku) BETWEEN 1 AND 64),
    name               text    NOT NULL CHECK (char_length(name) BETWEEN 1 AND 200),
    stock              bigint  NOT NULL CHECK (stock >= 0),
    initial_stock      bigint  NOT NULL CHECK (initial_stock >= 0),
    max_order_quantity integer NOT NULL DEFAULT 1000 CHECK (max_order_quantity BETWEEN 1 AND 1000000),
    reorder_quantity   integer NOT NULL CHECK (reorder_quantity BETWEEN 1 AND 1000000),
    max_replenishment  integer NOT NULL DEFAULT 1000 CHECK (max_replenishment BETWEEN 1 AND 1000000),
    factory_id         text    NOT NULL CHECK (char_length(factory_id) BETWEEN 1 AND 128),
    manager_email      text    NOT NULL CHECK (char_length(manager_email) BETWEEN 3 AND 254),
    created_at         timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE orders (
    id              uuid    PRIMARY KEY,
    sku             text    NOT NULL REFERENCES products,
    quantity        integer NOT NULL CHECK (quantity > 0),
    customer_id     text    CHECK (char_length(customer_id) BETWEEN 1 AND 128),
    remaining_stock bigint  NOT NULL CHECK (remaining_stock >= 0),
    created_at      timestamptz NOT NULL DEFAULT now()
);

-- requested -> accepted -> delivered | refused | cancelled. Open is requested
-- or accepted. A late delivery of a refused or cancelled one still counts, once.
CREATE TABLE replenishments (
    id                 uuid    PRIMARY KEY,
    sku                text    NOT NULL REFERENCES products,
    quantity           integer NOT NULL CHECK (quantity > 0),
    state              text    NOT NULL DEFAULT 'requested'
                       CHECK (state IN ('requested', 'accepted', 'delivered', 'refused', 'cancelled')),
    event_id           uuid    NOT NULL,
    production_id      text,
    refusal            text,
    delivered_quantity integer CHECK (delivered_quantity BETWEEN 1 AND quantity),
    requested_at       timestamptz NOT NULL DEFAULT now(),
    accepted_at        timestamptz,
    delivered_at       timestamptz,
    closed_at          timestamptz,
    CHECK ((state = 'delivered') = (delivered_quantity IS NOT NULL)),
    CHECK ((state IN ('requested', 'accepted')) = (closed_at IS NULL))
);
CREATE UNIQUE INDEX replenishments_open ON replenishments (sku) WHERE state IN ('requested', 'accepted');
CREATE INDEX replenishments_latest ON replenishments (sku, requested_at DESC);
-- For the cool-down, looked at by every failing checkout under the product's lock.
CREATE INDEX replenishments_refused ON replenishments (sku, closed_at) WHERE state = 'refused';

-- A second callback that states another count than the first: kept, changes
-- nothing, and somebody has to look at it. Each stated count once, however often
-- the factory sends it.
CREATE TABLE callback_conflicts (
    id               bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    replenishment_id uuid    NOT NULL REFERENCES replenishments,
    delivered_quantity integer NOT NULL,
    stated_quantity  integer NOT NULL,
    received_at      timestamptz NOT NULL DEFAULT now(),
    UNIQUE (replenishment_id, stated_quantity)
);

GRANT SELECT ON products, orders, replenishments, callback_conflicts TO restock_maintenance;
GRANT SELECT, UPDATE (stock) ON products TO restock_api;
GRANT SELECT, INSERT ON orders TO restock_api;
GRANT SELECT, INSERT, UPDATE (state, delivered_quantity, delivered_at, closed_at) ON replenishments TO restock_api;
GRANT SELECT, INSERT ON callback_conflicts TO restock_api;
GRANT SELECT ON products TO restock_consumers;
GRANT SELECT, UPDATE ON replenishments TO restock_consumers;
