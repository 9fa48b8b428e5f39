-- The outbox: one insert-only table of events, the schemas they were written with, and one row for the relay.
--
-- {{schema}} is replaced by the quoted name of the schema, and {{schema_str}} by the same, escaped for use
-- between single quotes.
--
-- Rights. The owner of these objects is whoever runs the migration. Nobody else needs to own anything:
--
--   an application (package outbox)   GRANT USAGE ON SCHEMA {{schema}} TO app;
--                                     GRANT INSERT ON {{schema}}.event TO app;
--                                     GRANT USAGE ON SEQUENCE {{schema}}.event_id_seq TO app;
--                                     GRANT SELECT, INSERT ON {{schema}}.schema TO app;
--                                     (INSERT on schema can be left out where "millrace schema push" runs first)
--   a writer in plain SQL (emit)      the same, but SELECT on schema is enough
--   the relay                         GRANT USAGE ON SCHEMA {{schema}} TO relay;
--                                     GRANT SELECT ON ALL TABLES IN SCHEMA {{schema}} TO relay;
--                                     GRANT INSERT, UPDATE ON {{schema}}.relay TO relay;

-- ids are drawn here and nowhere else, one by one: with a cache a session would hold low ids back and use them
-- after another's higher ones, and writers that take turns on a key would write out of order.
create sequence {{schema}}.event_id_seq as bigint cache 1;

-- A ring of eight leaves on the upper bits of the id. Every id has its leaf, so no INSERT can fail for want of a
-- partition, and none is ever created while writers are at work. Rows leave by emptying a leaf.
create table {{schema}}.event (
    xid         xid8        not null default pg_current_xact_id(),
    id          bigint      not null default nextval('{{schema_str}}.event_id_seq'),
    event_id    uuid        not null default gen_random_uuid(),
    topic       text        not null,
    key         text        not null,
    type        text        not null,
    schema_fp   bytea       not null,
    payload     bytea,
    body        jsonb,
    headers     jsonb,
    occurred_at timestamptz not null default clock_timestamp(),
    constraint event_payload_or_body check (num_nonnulls(payload, body) = 1),
    constraint event_schema_fp_length check (octet_length(schema_fp) = 16)
) partition by list (((id >> 32) & 7));

alter sequence {{schema}}.event_id_seq owned by {{schema}}.event.id;

comment on table {{schema}}.event is 'Outbox events, insert-only. Write through the outbox library or {{schema_str}}.emit(); read by the relay.';
comment on column {{schema}}.event.xid is 'The transaction that wrote the row: the relay compares it with snapshots.';
comment on column {{schema}}.event.id is 'Drawn from the sequence by the INSERT, never by a client. For writers that serialise on a key, id order is commit order.';
comment on column {{schema}}.event.schema_fp is 'Fingerprint of the schema the event was written with: a row of {{schema_str}}.schema.';
comment on column {{schema}}.event.payload is 'Avro binary without a frame; or else body is set.';
comment on column {{schema}}.event.body is 'JSON from emit(), encoded to Avro by the relay; or else payload is set.';

create index event_xid_id_idx on {{schema}}.event (xid, id);
create index event_id_idx on {{schema}}.event (id);

-- Storage parameters belong to the leaves; the parent holds no rows. A table that only grows is vacuumed for its
-- visibility map and to freeze: each page once, soon after it was filled, so that no great freezing pass is left
-- for later. Only rolled-back rows are ever dead.
do $millrace$
begin
    for leaf in 0..7 loop
        execute format(
            'create table %1$s.event_%2$s partition of %1$s.event for values in (%2$s) with ('
            '  autovacuum_vacuum_insert_threshold = 50000, autovacuum_vacuum_insert_scale_factor = 0.02,'
            '  autovacuum_vacuum_threshold = 50000, autovacuum_vacuum_scale_factor = 0.02,'
            '  autovacuum_analyze_threshold = 10000, autovacuum_analyze_scale_factor = 0.05,'
            '  autovacuum_freeze_min_age = 0, toast.autovacuum_freeze_min_age = 0)',
            '{{schema_str}}', leaf);
    end loop;
end
$millrace$;

-- Schemas, never changed once stored. The row with the highest seq of a name is that type's current schema: the
-- one emit() stamps. fields, required and not_null are worked out from the definition when it is stored, so that
-- emit() need not read Avro: every field; those that must be given (no default, null not allowed); those whose
-- value cannot be null; and whether the key is a uuid, whose text is lower case.
create table {{schema}}.schema (
    fingerprint bytea       primary key check (octet_length(fingerprint) = 16),
    name        text        not null,
    topic       text,
    key_field   text,
    definition  text        not null,
    fields      text[]      not null default '{}',
    required    text[]      not null default '{}',
    not_null    text[]      not null default '{}',
    key_uuid    boolean     not null default false,
    created_at  timestamptz not null default clock_timestamp(),
    seq         bigint      generated always as identity
);

create unique index schema_name_seq_idx on {{schema}}.schema (name, seq desc);

comment on table {{schema}}.schema is 'Avro schemas events were written with; the highest seq of a name is current.';

-- One row: the first start of the relay. Once it is there, a missing or foreign cursor in Kafka stops the relay.
create table {{schema}}.relay (
    singleton       boolean     primary key default true check (singleton),
    cluster_id      text        not null,
    cursor_topic_id text        not null,
    started_at      timestamptz not null default clock_timestamp()
);

comment on table {{schema}}.relay is 'First start of the relay: the Kafka cluster and cursor topic that belong to this outbox.';
