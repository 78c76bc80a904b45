-- The customers. A row is made by whoever keeps the customer list, or by the
-- first order that makes an unknown customer VIP; so all but the id may be
-- unknown. A customer may be VIP by hand, without an order that did it.

-- +goose Up
CREATE TABLE customers (
    id                text PRIMARY KEY CHECK (char_length(id) BETWEEN 1 AND 128),
    name              text CHECK (char_length(name) BETWEEN 1 AND 200),
    mail              text CHECK (char_length(mail) BETWEEN 3 AND 254),
    type              text NOT NULL DEFAULT 'normal' CHECK (type IN ('normal', 'vip')),
    promoted_at       timestamptz,
    promoted_by_order uuid,
    created_at        timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT customers_promotion_whole CHECK ((promoted_at IS NULL) = (promoted_by_order IS NULL)),
    CONSTRAINT customers_promoted_is_vip CHECK (type = 'vip' OR promoted_at IS NULL)
);

-- To promote takes no name and no mail, so they cannot be read or changed by it.
GRANT SELECT (id, type, promoted_at, promoted_by_order) ON customers TO restock_customers, restock_maintenance;
GRANT INSERT (id, type, promoted_at, promoted_by_order) ON customers TO restock_customers;
GRANT UPDATE (type, promoted_at, promoted_by_order) ON customers TO restock_customers;
