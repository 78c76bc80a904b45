-- The ads: who is told to stop and resume those of a product, in which language,
-- and what has been told for each replenishment.

-- +goose Up

-- Products that were there before tell their manager, in Korean, and so does a
-- new one that names nobody: a shop without somebody for its ads still wants them
-- stopped. A default cannot name another column, so a trigger does.
ALTER TABLE products
    ADD COLUMN ad_manager_email text CHECK (char_length(ad_manager_email) BETWEEN 3 AND 254),
    ADD COLUMN language text NOT NULL DEFAULT 'ko' CHECK (language IN ('ko', 'en'));
UPDATE products SET ad_manager_email = manager_email;
ALTER TABLE products ALTER COLUMN ad_manager_email SET NOT NULL;

-- +goose StatementBegin
CREATE FUNCTION name_ad_manager() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.ad_manager_email := NEW.manager_email;
    RETURN NEW;
END $$;
-- +goose StatementEnd
CREATE TRIGGER products_ad_manager BEFORE INSERT ON products
    FOR EACH ROW WHEN (NEW.ad_manager_email IS NULL) EXECUTE FUNCTION name_ad_manager();

-- One row for each replenishment that the ads consumer has looked at. It is keyed
-- by the replenishment and not by an event, so it has no day and no partitions,
-- and it outlives its events: one sent again much later still finds it.
--
-- stop is sending from before the call until its outcome is known, for good where
-- it never is, since the mail may be out then and has to be taken back all the
-- same. It is none again once the call has failed for certain. stop_sequence is
-- the place of the stop's event in the outbox, which for one SKU is the order in
-- which its replenishments were opened.
CREATE TABLE ads_mails (
    replenishment_id  uuid   PRIMARY KEY REFERENCES replenishments,
    sku               text   NOT NULL REFERENCES products,
    stop              text   NOT NULL DEFAULT 'none' CHECK (stop IN ('none', 'sending', 'sent', 'superseded')),
    stop_sequence     bigint,
    stop_message_id   text,
    stopped_at        timestamptz,
    resume            text   NOT NULL DEFAULT 'none' CHECK (resume IN ('none', 'sent', 'superseded', 'unneeded')),
    resume_message_id text,
    resumed_at        timestamptz,
    CHECK ((stop = 'sent') = (stopped_at IS NOT NULL)),
    CHECK (stop = 'none' OR stop_sequence IS NOT NULL),
    CHECK ((resume = 'sent') = (resumed_at IS NOT NULL))
);
-- For "is there a newer stop of this SKU".
CREATE INDEX ads_mails_stops ON ads_mails (sku, stop_sequence);

-- What a row is about never changes, so only the rest may be updated.
GRANT SELECT, INSERT,
    UPDATE (stop, stop_sequence, stop_message_id, stopped_at, resume, resume_message_id, resumed_at)
    ON ads_mails TO restock_consumers;
GRANT SELECT ON ads_mails TO restock_maintenance;
