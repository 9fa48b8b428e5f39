-- How far each backfill has come: the first load of events from tables that were there before the outbox (millrace backfill).
-- A batch of events and the row here that counts it are one transaction.
--
-- Rights of the role that backfills, besides those of an application in 0001:
--
--   GRANT SELECT, INSERT, UPDATE, DELETE ON {{schema}}.backfill TO backfiller;
--   GRANT SELECT, UPDATE ON the tables that are read TO backfiller;     -- UPDATE is for the locks on their rows
create table {{schema}}.backfill (
    name        text        primary key,
    declaration text        not null,
    position    text[],
    rows        bigint      not null default 0,
    total       bigint,
    started_at  timestamptz not null default clock_timestamp(),
    updated_at  timestamptz not null default clock_timestamp(),
    finished_at timestamptz
);

comment on table {{schema}}.backfill is 'How far each backfill has come.';
comment on column {{schema}}.backfill.declaration is 'Digest of what is read and how it becomes events: a changed one does not go on.';
comment on column {{schema}}.backfill.position is 'The key of the last row that was read, as text; null at the beginning.';
