-- Compacted history and what is derived from it: chunks, the use of limits and of owners over time, the objects of the
-- present, gaps of one kind in one namespace, and leases. One block, so that it also runs once tables are distributed.
--
-- Three places hold a host's records, and `stream` says which of them a record is in: before merged_to `chunk`, from there
-- to compacted_to `chunk_fresh`, from there on `frame`. What has moved on stays where it was until its partition is
-- dropped whole, and is not read there any more.
--
-- Partitions are made by whoever stores something in them; that of times that cannot be believed (1970-01-01) likewise.
DO $$
BEGIN

-- framed_to: one past the newest record that has a row in frame. Streams whose framed_to is beyond compacted_to have a
-- tail that waits for compaction.
ALTER TABLE stream ADD COLUMN framed_to bigint NOT NULL DEFAULT 0;
UPDATE stream SET framed_to = next_seq;
-- merged_to: records before it live in `chunk`.
ALTER TABLE stream ADD COLUMN merged_to bigint NOT NULL DEFAULT 0;
-- An imported epoch (epoch_no from 2^62 on; no agent counts so far) lies right after this stretch of this epoch; null =
-- an agent's own.
ALTER TABLE stream ADD COLUMN after_epoch_no bigint;
ALTER TABLE stream ADD COLUMN after_stretch int;

-- What is looked for in frame is the tail, which is short, and a host has few gaps: the primary keys find both, and an
-- index costs 8 KiB in every empty partition.
DROP INDEX frame_asof;
DROP INDEX gap_to;

-- lease (reference). A row = who does a job of which there must be one. Written by collectors, which renew it while they
-- work; fence grows with each holder, and what a job commits checks it. Never deleted.
CREATE TABLE lease (
    name          text   PRIMARY KEY,          -- the job, e.g. `compact/3`
    fence         bigint NOT NULL,             -- number of the holder, counts up
    holder        text   NOT NULL,             -- which collector process, for people
    until_ms      bigint NOT NULL              -- collector's clock; after it anybody may take it
);

-- chunk (distributed, partitioned by week). A row = consecutive records of one stretch, packed
-- (proto/ipc/src/chunk). Written by the merge of chunk_fresh, by import, and by retention (baselines); read by every
-- question about the past. Dies with its partition.
CREATE TABLE chunk (
    host_id       bigint   NOT NULL,
    epoch_no      bigint   NOT NULL,
    stretch       int      NOT NULL,
    from_wall_ms  bigint   NOT NULL,           -- wall time of its first record, which is a sample
    from_seq      bigint   NOT NULL,           -- and its position; where something that is no sample follows what was
                                               -- compacted before, that sample once more
    week          date     NOT NULL,           -- Monday of the week of from_wall_ms; of an import that of the import; of a
                                               -- baseline the week it keeps answerable; 1970-01-01 as in frame
    to_seq        bigint   NOT NULL,           -- position of its last record
    to_wall_ms    bigint   NOT NULL,           -- and its wall time
    prev_wall_ms  bigint,                      -- wall time of the epoch's sample before the first; null = there is none
    records       int      NOT NULL,
    baseline      boolean  NOT NULL,           -- a copy of the last record before this week, made before that was dropped
    objects       bytea    NOT NULL,           -- what `find` looks at first: collector/src/query/find
    body          bytea    NOT NULL,
    PRIMARY KEY (host_id, epoch_no, stretch, from_wall_ms, to_seq, week)
) PARTITION BY RANGE (week);

-- chunk_fresh (distributed, partitioned by day). A row = a small chunk of a stream's tail. Written by compaction, read like
-- chunk until its day is merged. Dies with its partition.
CREATE TABLE chunk_fresh (
    host_id       bigint   NOT NULL,
    epoch_no      bigint   NOT NULL,
    stretch       int      NOT NULL,
    from_wall_ms  bigint   NOT NULL,
    from_seq      bigint   NOT NULL,
    day           date     NOT NULL,           -- UTC day of from_wall_ms; 1970-01-01 as in frame
    to_seq        bigint   NOT NULL,
    to_wall_ms    bigint   NOT NULL,
    prev_wall_ms  bigint,
    records       int      NOT NULL,
    objects       bytea    NOT NULL,
    body          bytea    NOT NULL,
    PRIMARY KEY (host_id, epoch_no, stretch, from_wall_ms, to_seq, day)
) PARTITION BY RANGE (day);

-- usage (distributed, partitioned by month). A row = one namespace's use of the limits in half a day of its host's wall
-- clock, by ten minutes: last value and highest; a slot in which nothing changed is not in it. One array a column, as many
-- slots long and ascending: a row that is full is long enough for PostgreSQL to compress it, and of a row a slot as much
-- would be key and header as figures. In `*_max` null is the same as the last value. Written by compaction
-- (read under a lock and written again: a slot can be compacted in parts), read by capacity and v_usage. Dies with its
-- partition.
CREATE TABLE usage (
    host_id       bigint   NOT NULL,
    namespace     bigint   NOT NULL,           -- inode
    instance      numeric(20,0) NOT NULL,      -- tells two of one inode apart
    from_ms       bigint   NOT NULL,           -- when the half day begins, a multiple of its length
    month         date     NOT NULL,           -- first of the slots' month; 1970-01-01 as in frame
    own           boolean  NOT NULL,           -- the host's own namespace
    slots         smallint[] NOT NULL,         -- when each begins: so many times ten minutes after from_ms
    sem_arrays    numeric[] NOT NULL, sem_arrays_max   numeric[] NOT NULL, semmni numeric[] NOT NULL,
    semaphores    numeric[] NOT NULL, semaphores_max   numeric[] NOT NULL, semmns numeric[] NOT NULL,
    shm_segments  numeric[] NOT NULL, shm_segments_max numeric[] NOT NULL, shmmni numeric[] NOT NULL,
    shm_pages     numeric[] NOT NULL, shm_pages_max    numeric[] NOT NULL, shmall numeric[] NOT NULL,
    msg_queues    numeric[] NOT NULL, msg_queues_max   numeric[] NOT NULL, msgmni numeric[] NOT NULL,
    PRIMARY KEY (host_id, namespace, instance, from_ms, month)
) PARTITION BY RANGE (month);

-- usage_hour (distributed, partitioned by year). A row = the same for an hour, as plain columns, for a fleet's months are
-- read at once: the rollup that outlives usage. Written by compaction (upsert), read likewise.
CREATE TABLE usage_hour (
    host_id       bigint   NOT NULL,
    namespace     bigint   NOT NULL,
    instance      numeric(20,0) NOT NULL,
    slot_ms       bigint   NOT NULL,           -- when the hour begins
    year          date     NOT NULL,           -- first of January of the slot's year; 1970-01-01 as in frame
    own           boolean  NOT NULL,
    sem_arrays    numeric(20,0), sem_arrays_max   numeric(20,0), semmni numeric(20,0),
    semaphores    numeric(20,0), semaphores_max   numeric(20,0), semmns numeric(20,0),
    shm_segments  numeric(20,0), shm_segments_max numeric(20,0), shmmni numeric(20,0),
    shm_pages     numeric(20,0), shm_pages_max    numeric(20,0), shmall numeric(20,0),
    msg_queues    numeric(20,0), msg_queues_max   numeric(20,0), msgmni numeric(20,0),
    PRIMARY KEY (host_id, namespace, instance, slot_ms, year)
) PARTITION BY RANGE (year);
-- A review reads the last weeks of all hosts out of years: rows lie in order of time, so a summary of blocks is enough, and
-- costs next to nothing to keep.
CREATE INDEX usage_hour_slot ON usage_hour USING brin (slot_ms) WITH (pages_per_range = 32, autosummarize = on);

-- usage_pack (distributed, partitioned by year). A row = those rows of one namespace in four days, packed: a review reads
-- months of a whole fleet. Written by compaction in the transaction that writes usage_hour, read by `capacity`.
CREATE TABLE usage_pack (
    host_id       bigint   NOT NULL,
    namespace     bigint   NOT NULL,
    instance      numeric(20,0) NOT NULL,
    from_ms       bigint   NOT NULL,           -- when the four days begin, or the year in them
    year          date     NOT NULL,           -- of the hours, as in usage_hour
    own           boolean  NOT NULL,
    is_there      boolean  NOT NULL,           -- the newest hour says anything
    body          bytea    NOT NULL,
    PRIMARY KEY (host_id, namespace, instance, own, from_ms, year)
) PARTITION BY RANGE (year);
-- Overwritten while its four days last: small enough to stay in the row, and no index on what changes.
CREATE INDEX usage_pack_from ON usage_pack (from_ms);
-- Which other namespaces than its own a host has that have not changed for long is known from these rows alone.
CREATE INDEX usage_pack_others ON usage_pack (host_id, namespace, instance, from_ms DESC) WHERE NOT own;

-- owner_usage (distributed, partitioned by month). A row = who held what on one host at the end of an hour of its wall
-- clock, all owners side by side (one array a column: a third of the bytes of a row each); an hour in which nothing of it
-- changed has no row. In the arrays null is 0 where objects is known, and for objects_max the same as objects; an array of
-- nothing else is null itself. Written by compaction (upsert), read by `blame --fleet` and v_owner_now. Dies with its partition,
-- which begins with a baseline for each host that holds something.
CREATE TABLE owner_usage (
    host_id       bigint   NOT NULL,
    slot_ms       bigint   NOT NULL,           -- when the hour begins
    month         date     NOT NULL,
    wall_ms       bigint   NOT NULL,           -- wall time of the sample that `*` and not `*_max` is of
    boot_id       bytea    NOT NULL,
    namespaces    bigint[],                    -- inode
    kinds         smallint[] NOT NULL,         -- 0 sem, 1 shm, 2 msg
    uids          bigint[]   NOT NULL,
    users         text[],                      -- that uid's name, escaped; null = none
    comms         text[],                      -- escaped; null = not known, or several
    objects       int[]      NOT NULL,
    objects_max   int[],                       -- highest in the hour
    semaphores    bigint[],
    bytes         numeric[],
    orphans       int[],                       -- certain, likely and unattached
    certain       int[],
    PRIMARY KEY (host_id, slot_ms, month)
) PARTITION BY RANGE (month);

-- object_now (distributed). A row = what one host held when its tail was compacted last, as `find` looks at it first.
-- Overwritten by compaction; no index on what changes, room for HOT updates.
CREATE TABLE object_now (
    host_id       bigint   NOT NULL PRIMARY KEY,
    epoch_no      bigint   NOT NULL,
    seq           bigint   NOT NULL,           -- the sample that it is of
    wall_ms       bigint   NOT NULL,
    objects       bytea    NOT NULL
) WITH (fillfactor = 70);

-- gap_part (distributed). A row = a span in which one kind of objects of one namespace could not be read while samples were
-- taken. Written by compaction, read by v_gap. Dies when its end is older than what is kept.
CREATE TABLE gap_part (
    host_id       bigint   NOT NULL,
    epoch_no      bigint   NOT NULL,
    seq           bigint   NOT NULL,           -- the first sample that could not read it
    namespace     bigint   NOT NULL,
    instance      numeric(20,0) NOT NULL,
    kind          smallint NOT NULL,           -- 0 sem, 1 shm, 2 msg
    from_wall_ms  bigint   NOT NULL,           -- last sample that read it, or its stretch's first
    to_wall_ms    bigint,                      -- first sample that reads it again; null = none yet
    detail        text     NOT NULL,           -- why, escaped
    PRIMARY KEY (host_id, epoch_no, seq, namespace, instance, kind)
);

IF EXISTS (SELECT FROM pg_extension WHERE extname = 'citus') THEN
    PERFORM create_reference_table('lease');
    PERFORM create_distributed_table(t, 'host_id', colocate_with => 'host_status') FROM unnest(ARRAY['chunk',
        'chunk_fresh', 'usage', 'usage_hour', 'usage_pack', 'owner_usage', 'object_now', 'gap_part']) AS t
    WHERE EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = 'host_status'::regclass);
END IF;

END
$$;
