-- emit writes an event from any language, in the caller's transaction:
--
--   select {{schema}}.emit('shop.OrderPlaced', null, '{"order_id": "o-1", "total": "12.50"}');
--
-- A null key is taken from the body, from the field the schema names. headers is an object of strings. The event
-- gets the schema that is current now, so that a later one does not reinterpret it. What can be refused without
-- reading Avro is refused here, in the caller's transaction; the relay parks what still does not fit.
--
-- It runs with the caller's rights (INSERT on event, USAGE on event_id_seq, SELECT on schema) and with a fixed
-- search path, so that no object of the caller's can be slipped in.
--
-- Its errors can be told apart by SQLSTATE; the column name of the error is the field, where there is one:
--
--   MR001 unknown type      MR002 the schema names no topic     MR003 body is not a JSON object
--   MR004 missing field     MR005 unknown field                 MR006 no usable key
--   MR007 over a limit      MR008 headers not allowed
--
-- There is no exception block on purpose: it would cost a subtransaction for every event.
create function {{schema}}.emit(type text, key text, body jsonb, headers jsonb default null) returns uuid
    language plpgsql
    volatile
    security invoker
    set search_path = pg_catalog, pg_temp
as $millrace$
#variable_conflict use_column
declare
    max_key     constant int := 1024;     -- bytes; the limits of package outbox
    max_body    constant int := 983040;   -- bytes of JSON
    max_headers constant int := 32;       -- headers an event
    max_header_bytes constant int := 8192; -- names and values together
    s           record;
    event_key   text := emit.key;
    key_type    text;
    field       text;
    value_type  text;
    header_sum  bigint;
    new_id      uuid := gen_random_uuid();
begin
    select c.fingerprint, c.topic, c.key_field, c.key_uuid, c.fields, c.required, c.not_null
      into s
      from {{schema}}.schema c
     where c.name = emit.type
     order by c.seq desc
     limit 1;
    if not found then
        raise exception using errcode = 'MR001',
            message = pg_catalog.format('outbox: unknown event type %s', coalesce(quote_literal(emit.type), 'NULL')),
            hint = 'Store its schema first: millrace schema push.';
    end if;
    if s.topic is null then
        raise exception using errcode = 'MR002',
            message = pg_catalog.format('outbox: schema %s names no topic', emit.type),
            hint = 'Add the property "millrace.topic" to the schema and push it.';
    end if;

    if emit.body is null or jsonb_typeof(emit.body) <> 'object' then
        raise exception using errcode = 'MR003',
            message = pg_catalog.format('outbox: %s: body must be a JSON object, not %s', emit.type,
                                        coalesce(jsonb_typeof(emit.body), 'NULL'));
    end if;
    if octet_length(emit.body::text) > max_body then
        raise exception using errcode = 'MR007',
            message = pg_catalog.format('outbox: %s: body of %s bytes is over the limit of %s', emit.type,
                                        octet_length(emit.body::text), max_body);
    end if;
    if not emit.body ?& s.required then
        select f into field from unnest(s.required) f where not emit.body ? f limit 1;
        raise exception using errcode = 'MR004', column = field,
            message = pg_catalog.format('outbox: %s: required field %s is missing', emit.type, quote_ident(field));
    end if;
    if emit.body - s.fields <> '{}' then
        select f into field from jsonb_object_keys(emit.body - s.fields) f limit 1;
        raise exception using errcode = 'MR005', column = left(field, 200),
            message = pg_catalog.format('outbox: %s: unknown field %s', emit.type, quote_ident(left(field, 200)));
    end if;
    if jsonb_path_exists(emit.body, '$.* ? (@ == null)') then
        select f into field from unnest(s.not_null) f where emit.body -> f = 'null' limit 1;
        if found then
            raise exception using errcode = 'MR004', column = field,
                message = pg_catalog.format('outbox: %s: field %s cannot be null', emit.type, quote_ident(field));
        end if;
    end if;

    if event_key is null and s.key_field is not null then
        key_type := jsonb_typeof(emit.body -> s.key_field);
        if key_type = 'number' then
            event_key := trim_scale((emit.body ->> s.key_field)::numeric)::text;
        elsif key_type = 'string' then
            event_key := emit.body ->> s.key_field;
        end if;
        if s.key_uuid then
            event_key := lower(event_key); -- as it is written to Avro
        end if;
    end if;
    if event_key is null or event_key = '' then
        raise exception using errcode = 'MR006', column = coalesce(s.key_field, ''),
            message = case when s.key_field is null
                           then pg_catalog.format('outbox: %s: no key given, and its schema names no key field', emit.type)
                           else pg_catalog.format('outbox: %s: no key given, and none in field %s', emit.type, quote_ident(s.key_field))
                      end;
    end if;
    if octet_length(event_key) > max_key then
        raise exception using errcode = 'MR007',
            message = pg_catalog.format('outbox: %s: key of %s bytes is over the limit of %s', emit.type,
                                        octet_length(event_key), max_key);
    end if;

    if emit.headers is not null then
        if jsonb_typeof(emit.headers) <> 'object' then
            raise exception using errcode = 'MR008',
                message = pg_catalog.format('outbox: %s: headers must be a JSON object of strings, not %s', emit.type,
                                            jsonb_typeof(emit.headers));
        end if;
        select h.key, jsonb_typeof(h.value) into field, value_type
          from jsonb_each(emit.headers) h
         where jsonb_typeof(h.value) <> 'string'
            or h.key !~ '^[a-z0-9][a-z0-9._-]*$'
            or (h.key ~ '^(ce_|millrace-)' and h.key <> 'millrace-tenant')
         limit 1;
        if found then
            raise exception using errcode = 'MR008',
                message = pg_catalog.format('outbox: %s: header %s is not allowed', emit.type, quote_ident(left(field, 200))),
                hint = 'Names are lower case letters, digits, ".", "_" and "-"; ce_ and millrace- are reserved, but for millrace-tenant; values are strings.';
        end if;
        select sum(octet_length(h.key) + octet_length(h.value)), count(*) > max_headers into header_sum, value_type
          from jsonb_each_text(emit.headers) h;
        if header_sum > max_header_bytes or value_type::boolean then
            raise exception using errcode = 'MR007',
                message = pg_catalog.format('outbox: %s: headers are over the limit of %s headers and %s bytes', emit.type,
                                            max_headers, max_header_bytes);
        end if;
    end if;

    insert into {{schema}}.event (event_id, topic, key, type, schema_fp, body, headers)
    values (new_id, s.topic, event_key, emit.type, s.fingerprint, emit.body, emit.headers);
    return new_id;
end
$millrace$;

comment on function {{schema}}.emit(text, text, jsonb, jsonb) is 'Writes an event in the caller''s transaction; returns its event id.';

-- lock_key makes writers of one key take turns until their transactions end, where there is no row that they lock
-- anyway. Call it before reading what the event depends on. Package outbox takes the same lock, by LockKey.
create function {{schema}}.lock_key(topic text, key text) returns void
    language sql
    volatile
    security invoker
    set search_path = pg_catalog, pg_temp
as $millrace$
    select pg_advisory_xact_lock(hashtextextended(key, hashtextextended(topic, 0)))
$millrace$;

comment on function {{schema}}.lock_key(text, text) is 'Makes writers of one key take turns until the end of the transaction.';
