-- Passwords of this laptop, and what the demo's shop has.
ALTER ROLE restock_api PASSWORD 'only-for-this-laptop';
ALTER ROLE restock_relay PASSWORD 'only-for-this-laptop';
ALTER ROLE restock_consumers PASSWORD 'only-for-this-laptop';
ALTER ROLE restock_customers PASSWORD 'only-for-this-laptop';
ALTER ROLE restock_maintenance PASSWORD 'only-for-this-laptop';
INSERT INTO products (sku, name, stock, initial_stock, reorder_quantity, factory_id, manager_email) VALUES
    ('CP-502101', '도너츠', 1, 1, 10, 'FF-500293', 'manager@donuts.example'),
    ('CP-502102', '초코 도너츠', 500, 500, 100, 'FF-500293', 'manager@donuts.example')
    ON CONFLICT DO NOTHING;
