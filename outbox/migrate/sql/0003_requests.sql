-- What an operator asks of the relay, and what the relay answered. A command inserts a row, on any machine that reaches the
-- database; the leading relay looks about once a second, does it, and writes the answer into the row. Rows stay as a
-- record of what was done and who asked for it; answered ones may be deleted at any time.
--
-- Rights, besides those of 0001:
--
--   the relay                         GRANT SELECT, UPDATE ON {{schema}}.request TO relay;
--                                     GRANT SELECT, INSERT ON {{schema}}.pause TO relay;
--   an operator (millrace relay       GRANT USAGE ON SCHEMA {{schema}} TO operator;
--   pause, parked release, ...)       GRANT SELECT ON ALL TABLES IN SCHEMA {{schema}} TO operator;
--                                     GRANT INSERT ON {{schema}}.request TO operator;
--                                     GRANT INSERT, DELETE ON {{schema}}.pause TO operator;
--
-- A relay without these rights publishes all the same, takes no requests, and says so.

create table {{schema}}.request (
    id           bigint      generated always as identity primary key,
    kind         text        not null check (kind in ('release', 'discard', 'drain', 'pause', 'resume')),
    args         jsonb       not null default '{}',
    requested_by text        not null default session_user,
    requested_at timestamptz not null default clock_timestamp(),
    committed    text        not null default pg_current_snapshot()::text,
    progress     jsonb,
    done_at      timestamptz,
    result       jsonb
);

create index request_open_idx on {{schema}}.request (id) where done_at is null;

comment on table {{schema}}.request is 'What operators asked of the relay, and its answers. Open while done_at is null.';
comment on column {{schema}}.request.committed is 'Which transactions had completed when the request was made: what a drain waits for.';

-- One row while the outbox is paused, none otherwise. It holds over restarts and takeovers.
create table {{schema}}.pause (
    singleton boolean     primary key default true check (singleton),
    paused_by text        not null default session_user,
    paused_at timestamptz not null default clock_timestamp(),
    reason    text        not null default ''
);

comment on table {{schema}}.pause is 'There while nothing of the outbox is to be published: who paused it, when and why.';
