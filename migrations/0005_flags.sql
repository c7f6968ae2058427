-- Flags: their transitions, what people said of them, and what the evaluator remembers of a host between two steps. One
-- block, so that it also runs once tables are distributed.
DO $$
BEGIN

ALTER TABLE flag ADD COLUMN instance numeric(20,0) NOT NULL DEFAULT 0; -- tells two namespaces of one inode apart
ALTER TABLE flag ADD COLUMN own boolean NOT NULL DEFAULT true;          -- it is the host's own one
-- What makes it grow, {kind, comm, per_event, seen, of, left, per_day, days: [likely, low, high]}; null = not known.
ALTER TABLE flag ADD COLUMN cause jsonb;
-- The flag of the other limit on the same objects, which is reached first and told in place of this one.
ALTER TABLE flag ADD COLUMN follows bigint;
ALTER TABLE flag ADD COLUMN audible boolean NOT NULL DEFAULT true; -- receivers are told, by its host's policy
ALTER TABLE flag ADD COLUMN note text;                     -- what somebody said of it who knows of it
ALTER TABLE flag ADD COLUMN noted_by text;                 -- which operator
ALTER TABLE flag ADD COLUMN noted_ms bigint;               -- collector's clock
-- What receivers were told last: 0 = nothing, 1 = warning, 2 = critical, 3 = cleared.
ALTER TABLE flag ADD COLUMN told smallint NOT NULL DEFAULT 0;
ALTER TABLE flag ADD COLUMN notices int NOT NULL DEFAULT 0;  -- how often receivers were told

-- flag_event (distributed). A row = a flag was raised, became worse or better, or was cleared. Written by the evaluator in
-- the transaction that moves the records it is decided by, read by `timeline` and `flag show`. Dies with its flag.
CREATE TABLE flag_event (
    host_id       bigint   NOT NULL,
    flag_id       bigint   NOT NULL,
    no            int      NOT NULL,           -- counts from 0 within the flag
    at_ms         bigint   NOT NULL,           -- host's clock
    epoch_no      bigint   NOT NULL,           -- the record it was decided by
    seq           bigint   NOT NULL,
    what          text     NOT NULL CHECK (what IN ('raised', 'worsened', 'eased', 'cleared')),
    severity      text     NOT NULL CHECK (severity IN ('warning', 'critical')),
    PRIMARY KEY (host_id, flag_id, no)
);

-- flag_state (distributed). A row = what the evaluator remembers of one host after the records that compaction has moved.
-- Overwritten by each step; no index on what changes, room for HOT updates.
CREATE TABLE flag_state (
    host_id       bigint   NOT NULL PRIMARY KEY,
    near          real     NOT NULL,           -- highest share of a limit that was in use: 0..1 and above
    body          bytea    NOT NULL            -- collector/src/evaluate/state.rs
) WITH (fillfactor = 70);

-- silence (distributed). A row = nobody is told of a host's flags until then. Overwritten by the next one.
CREATE TABLE silence (
    host_id       bigint   NOT NULL PRIMARY KEY,
    until_ms      bigint   NOT NULL,           -- collector's clock
    note          text     NOT NULL,
    made_by       text     NOT NULL,           -- which operator
    made_ms       bigint   NOT NULL            -- collector's clock
);

IF EXISTS (SELECT FROM pg_extension WHERE extname = 'citus') THEN
    PERFORM create_distributed_table(t, 'host_id', colocate_with => 'host_status')
    FROM unnest(ARRAY['flag_event', 'flag_state', 'silence']) AS t
    WHERE EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = 'host_status'::regclass);
END IF;

END
$$;
