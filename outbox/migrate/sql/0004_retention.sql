-- Retention: what the relay needs to let published rows leave, a leaf of the ring at a time.
--
-- The sequence is in one leaf. turn_ring moves it to the next, by a jump to the next multiple of 2^32; empty_leaf
-- empties one that it has left, by TRUNCATE. Both run with their owner's rights, check all that makes them safe
-- themselves, and take turns on an advisory lock, so that it does not matter how many call them, or how late.
--
-- Rights of the relay, beside those of 0001:
--
--   GRANT SELECT ON {{schema}}.ring, {{schema}}.leaf TO relay;
--   GRANT SELECT ON SEQUENCE {{schema}}.event_id_seq TO relay;
--   GRANT EXECUTE ON FUNCTION {{schema}}.turn_ring(boolean), {{schema}}.empty_leaf(int, pg_snapshot, timestamptz) TO relay;
--
-- Who may write the table relay when this migration is applied gets them from it.

-- One row. A generation is the upper half of an id; its leaf is the generation modulo 8. The sequence may be one
-- generation further than is written here, never more without it being written: readers rely on that.
create table {{schema}}.ring (
    singleton  boolean     primary key default true check (singleton),
    generation bigint      not null,
    epoch      bigint      not null default 0,
    floor      bigint      not null default 0
);

comment on table {{schema}}.ring is 'Where the ring of leaves stands; written by {{schema_str}}.turn_ring() and {{schema_str}}.empty_leaf() only.';
comment on column {{schema}}.ring.generation is 'The upper half of the ids being drawn.';
comment on column {{schema}}.ring.epoch is 'Counts the turns: a reader that knows the leaves of another epoch reads them again.';
comment on column {{schema}}.ring.floor is 'Rows with lower ids may have been removed.';

create table {{schema}}.leaf (
    leaf       int         primary key check (leaf between 0 and 7),
    entered_at timestamptz,
    left_at    timestamptz,
    left_xid   xid8,
    emptied_at timestamptz
);

comment on table {{schema}}.leaf is 'The leaves of {{schema_str}}.event: when the sequence entered and left them.';
comment on column {{schema}}.leaf.left_xid is 'Every transaction that has an id of this leaf has a lower transaction id than this one. Null while the sequence is in the leaf, or was never.';

insert into {{schema}}.ring (generation) select last_value >> 32 from {{schema}}.event_id_seq;
insert into {{schema}}.leaf (leaf, entered_at)
select l, case when l = r.generation & 7 then clock_timestamp() end from generate_series(0, 7) l, {{schema}}.ring r;

-- turn_ring writes down which leaves the sequence has left, and with jump makes it leave the one it is in. It says what
-- came of it:
--
--   turned    the sequence was moved      settled   it had moved by itself, and that is now known
--   same      nothing was to be done      busy      another session is at it
--   full      the next leaf holds rows    late      the next leaf is empty, but a transaction that is still open may
--   ending    the leaf is nearly full and is left without help    have drawn an id in it
--
-- The sequence never goes back: the jump is worked out from where it is under the lock, writers only move it on
-- meanwhile, and the last sixteenth of a leaf is left to them. Nobody waits: setval locks what nextval locks.
--
-- left_xid is assigned after the sequence was seen elsewhere. A transaction assigns its own xid before it draws an id
-- (xid is the first column of a row), so whoever drew one in the leaf has a lower xid.
create function {{schema}}.turn_ring(jump boolean) returns text
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set enable_bitmapscan = off
    set lock_timeout = '30ms'
as $millrace$
declare
    lap     constant bigint := 1::bigint << 32;
    leaves  constant text := '{{schema_str}}.event_';
    known   bigint;
    drawn   bigint;
    now_in  bigint;
    next    int;
    passed  bigint;
    xid     xid8;
    holds   boolean;
    at_all  boolean := false;
    answer  text := 'same';
begin
    if current_setting('transaction_isolation') <> 'read committed' or pg_current_xact_id_if_assigned() is not null then
        raise exception 'turn_ring must be called in a transaction of its own';
    end if;
    if not pg_try_advisory_xact_lock(x'6d74'::int, hashtext('{{schema_name}}')) then
        return 'busy';
    end if;
    select r.generation into strict known from {{schema}}.ring r;
    select s.last_value into strict drawn from {{schema}}.event_id_seq s;
    now_in := drawn >> 32;
    if turn_ring.jump and now_in = known then
        next := (now_in + 1) & 7;
        execute 'select exists (select from (select e.id from ' || leaves || next || ' e order by e.id limit 1) e)' into strict holds;
        if drawn & (lap - 1) >= lap / 16 * 15 then
            answer := 'ending';
        elsif holds then
            answer := 'full';
        elsif exists (select from {{schema}}.leaf l where l.leaf = next and l.left_xid > pg_snapshot_xmin(pg_current_snapshot())) then
            answer := 'late';
        else
            -- Nobody draws this one id: with "called", the value is always known to pg_sequence_last_value.
            perform setval('{{schema_str}}.event_id_seq', (now_in + 1) << 32, true);
            now_in := now_in + 1;
            answer := 'turned';
        end if;
    end if;
    for step in 1..7 loop
        passed := now_in - step;
        exit when passed < 0;
        continue when passed < known and exists (select from {{schema}}.leaf l where l.leaf = passed & 7 and l.left_xid is not null);
        if passed < known then -- rows from before this migration
            execute 'select exists (select from (select e.id from ' || leaves || (passed & 7) || ' e order by e.id limit 1) e)' into strict holds;
            continue when not holds;
        end if;
        xid := coalesce(xid, pg_current_xact_id());
        update {{schema}}.leaf l
           set entered_at = case when passed <= known then l.entered_at end, left_at = clock_timestamp(), left_xid = xid, emptied_at = null
         where l.leaf = passed & 7;
        at_all := true;
    end loop;
    if now_in <> known then
        update {{schema}}.leaf l
           set entered_at = clock_timestamp(), left_at = null, left_xid = null, emptied_at = null
         where l.leaf = now_in & 7;
        at_all := true;
    end if;
    if at_all then
        update {{schema}}.ring r set generation = now_in, epoch = r.epoch + 1;
        answer := case answer when 'same' then 'settled' else answer end;
    end if;
    return answer;
end
$millrace$;

comment on function {{schema}}.turn_ring(boolean) is 'Moves the ids of new events on to the next leaf. Called by the relay.';

-- empty_leaf removes the rows of a leaf that the sequence left before the given time, if each of them was published:
-- its transaction is visible in last, the snapshot of the committed cursor. It says what came of it:
--
--   emptied                               busy         another session is at it
--   current      the sequence is in it    unpublished  it holds rows that last does not see
--   retained     it was left later        unsettled    call turn_ring first
--
-- The lock waits 30 ms (SQLSTATE 55P03), for an INSERT that comes late into this leaf waits behind it; all others go
-- elsewhere. Such an INSERT has drawn its id and lands in the emptied leaf: readers go on looking there until last
-- has passed left_xid.
create function {{schema}}.empty_leaf(leaf int, last pg_snapshot, before timestamptz) returns text
    language plpgsql
    volatile
    security definer
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set enable_bitmapscan = off
    set lock_timeout = '30ms'
as $millrace$
#variable_conflict use_column
declare
    name    constant text := '{{schema_str}}.event_' || empty_leaf.leaf;
    known   bigint;
    drawn   bigint;
    gone    bigint;
    left_at timestamptz;
    newest  xid8;
    holds   boolean;
begin
    if current_setting('transaction_isolation') <> 'read committed' or pg_current_xact_id_if_assigned() is not null then
        raise exception 'empty_leaf must be called in a transaction of its own';
    end if;
    if not pg_try_advisory_xact_lock(x'6d74'::int, hashtext('{{schema_name}}')) then
        return 'busy';
    end if;
    select r.generation into strict known from {{schema}}.ring r;
    select s.last_value >> 32 into strict drawn from {{schema}}.event_id_seq s;
    select l.left_at into strict left_at from {{schema}}.leaf l where l.leaf = empty_leaf.leaf;
    if empty_leaf.leaf = drawn & 7 then
        return 'current';
    elsif drawn <> known then
        return 'unsettled';
    elsif left_at is null then
        return 'current';
    elsif left_at >= empty_leaf.before then
        return 'retained';
    end if;
    -- Looked at twice: before the lock, so that under it little is left to do, and under it, with a snapshot taken after it.
    for under_lock in 0..1 loop
        if under_lock = 1 then
            execute 'lock table only ' || name || ' in access exclusive mode';
        end if;
        execute 'select (select e.xid from ' || name || ' e order by e.xid desc, e.id desc limit 1)' into newest;
        if newest >= pg_snapshot_xmax(empty_leaf.last) then
            return 'unpublished';
        end if;
        execute 'select exists (select from pg_snapshot_xip($1) running(xid) cross join lateral (select from ' || name
                || ' e where e.xid >= running.xid and e.xid <= running.xid order by e.xid, e.id limit 1) late)'
           into strict holds using empty_leaf.last;
        if holds then
            return 'unpublished';
        end if;
    end loop;
    execute 'truncate table only ' || name;
    gone := drawn - ((drawn - empty_leaf.leaf) & 7);
    update {{schema}}.leaf l set emptied_at = clock_timestamp() where l.leaf = empty_leaf.leaf;
    update {{schema}}.ring r set floor = greatest(r.floor, (gone + 1) << 32);
    return 'emptied';
end
$millrace$;

comment on function {{schema}}.empty_leaf(int, pg_snapshot, timestamptz) is 'Removes the rows of a leaf, all of them published. Called by the relay.';

revoke all on function {{schema}}.turn_ring(boolean), {{schema}}.empty_leaf(int, pg_snapshot, timestamptz) from public;

do $millrace$
declare
    relay_role regrole;
begin
    for relay_role in
        select distinct acl.grantee::regrole
          from pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) acl
         where c.oid = '{{schema_str}}.relay'::regclass and acl.privilege_type = 'INSERT' and acl.grantee <> 0 and acl.grantee <> c.relowner
    loop
        execute 'grant select on {{schema_str}}.ring, {{schema_str}}.leaf to ' || relay_role;
        execute 'grant select on sequence {{schema_str}}.event_id_seq to ' || relay_role;
        execute 'grant execute on function {{schema_str}}.turn_ring(boolean), {{schema_str}}.empty_leaf(int, pg_snapshot, timestamptz) to ' || relay_role;
    end loop;
end
$millrace$;
