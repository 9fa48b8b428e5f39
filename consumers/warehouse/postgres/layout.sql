-- The tables and functions that are the same in every warehouse. {m} and {b} stand for the schemas
-- millrace and bronze_base of a generation.

CREATE TABLE {m}.layout (
	version    int    NOT NULL,            -- of this file
	generation bigint NOT NULL DEFAULT 1   -- counts changes of tables that are written to
);
INSERT INTO {m}.layout (version) VALUES (2);

CREATE TABLE {m}.positions (
	topic     text COLLATE "C" NOT NULL,
	partition int    NOT NULL,
	next      bigint NOT NULL,             -- the offset to apply next; -1: nothing was ever applied
	epoch     bigint NOT NULL,             -- of the owner; each claim raises it
	PRIMARY KEY (topic, partition)
) WITH (fillfactor = 20);

-- A key can be longer than an index entry, so there is none on it; whoever writes here holds the partition's position.
CREATE TABLE {m}.quarantine (
	topic     text COLLATE "C" NOT NULL,
	partition int    NOT NULL,
	key       text COLLATE "C" NOT NULL,
	"offset"  bigint NOT NULL
);
CREATE INDEX ON {m}.quarantine (topic, partition);

CREATE TABLE {m}.entities (
	entity     text COLLATE "C" PRIMARY KEY,
	topic      text NOT NULL,
	digest     text NOT NULL,
	base_table text NOT NULL,
	columns    json NOT NULL,              -- what the table was made for, and what has changed since
	created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE {m}.left_out (
	entity  text COLLATE "C" PRIMARY KEY,
	applied numeric NOT NULL               -- the sum of the positions of its topic when it was no longer declared
);

CREATE TABLE {b}.events (
	topic      text   NOT NULL,
	partition  int    NOT NULL,
	"offset"   bigint NOT NULL,
	key        text,
	type       text,
	event_id   text,
	seq        bigint NOT NULL,
	event_time timestamptz NOT NULL,
	schema_id  int,
	headers    json,
	data       json,
	payload    bytea,
	_headers   bytea                         -- where JSON does not tell the headers byte for byte
);

-- advance compares and sets epoch and position of a batch, in the batch's transaction.
-- MR001: another owner has claimed the partition. MR002: the batch begins elsewhere. MR003: the tables have changed.
CREATE FUNCTION {m}.advance(t text, p int, e bigint, since bigint, till bigint, g bigint, partition_lock bigint, barrier bigint)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	now_epoch bigint;
	now_next bigint;
BEGIN
	PERFORM pg_advisory_xact_lock(partition_lock);
	PERFORM pg_advisory_xact_lock_shared(barrier);
	PERFORM FROM {m}.layout WHERE generation = g;
	IF NOT FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'MR003', MESSAGE = 'the tables were made anew';
	END IF;
	UPDATE {m}.positions SET next = till WHERE topic = t AND partition = p AND epoch = e AND (next = -1 OR next = since);
	IF FOUND THEN
		RETURN;
	END IF;
	SELECT epoch, next INTO now_epoch, now_next FROM {m}.positions WHERE topic = t AND partition = p;
	IF now_epoch = e THEN
		RAISE EXCEPTION USING ERRCODE = 'MR002', MESSAGE = 'the position is ' || now_next;
	END IF;
	RAISE EXCEPTION USING ERRCODE = 'MR001', MESSAGE = 'the epoch is ' || coalesce(now_epoch, 0);
END $$;
