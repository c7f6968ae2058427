-- The tables of one host's history, its identity, and its present.
--
-- Kinds of tables (see README.md and CITUS rules there): reference = small, global, holds all global uniqueness;
-- distributed = by host_id, which is first in every unique index; local = one node only.
-- Times named *_ms are milliseconds since 1970 (UTC), *_us microseconds. Host text is stored escaped (`\xHH`).

-- host (reference). A row = one enrolled host. Written by enrolment and hello, read by everybody, never deleted.
CREATE TABLE host (
    host_id       bigint PRIMARY KEY,          -- random, positive
    name          text   NOT NULL,             -- host name of the latest hello, escaped
    labels        jsonb  NOT NULL DEFAULT '{}',-- from the token or an operator, never from the host
    enrolled_ms   bigint NOT NULL
);
CREATE INDEX host_name ON host (name);

-- enrolment_token (reference). A row = one token that may enrol hosts. Written by `token create`, `token revoke` and
-- enrolment; the secret itself is nowhere.
CREATE TABLE enrolment_token (
    token_id      text   PRIMARY KEY,
    secret_sha256 bytea  NOT NULL,
    created_ms    bigint NOT NULL,
    expires_ms    bigint NOT NULL,
    uses_left     int    NOT NULL CHECK (uses_left >= 0),
    host_id       bigint REFERENCES host (host_id),  -- set: re-enrols this host
    labels        jsonb  NOT NULL DEFAULT '{}',
    revoked_ms    bigint
);

-- certificate (reference). A row = one certificate signed for a host. Written by enrolment, read at each handshake's
-- hello and to repeat a lost reply.
CREATE TABLE certificate (
    serial        bytea  PRIMARY KEY,          -- as in the certificate, big endian
    host_id       bigint NOT NULL REFERENCES host (host_id),
    token_id      text   NOT NULL REFERENCES enrolment_token (token_id),
    spki_sha256   bytea  NOT NULL,             -- of the host's public key
    not_before_ms bigint NOT NULL,
    not_after_ms  bigint NOT NULL,
    der           bytea  NOT NULL,
    revoked_ms    bigint,
    UNIQUE (token_id, spki_sha256)             -- a repeated enrolment finds its first answer
);
CREATE INDEX certificate_host ON certificate (host_id);

-- operator_token (reference). A row = one credential for the HTTP API. Written by `up`, read at each request.
CREATE TABLE operator_token (
    token_id      text   PRIMARY KEY,
    name          text   NOT NULL,
    role          text   NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
    secret_sha256 bytea  NOT NULL,
    created_ms    bigint NOT NULL,
    revoked_ms    bigint
);

-- audit (local). A row = one thing that somebody did to hosts, tokens or operators. Append-only.
CREATE TABLE audit (
    audit_id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at_ms         bigint NOT NULL,
    who           text   NOT NULL,             -- operator's name, or `enrolment`
    what          text   NOT NULL,             -- e.g. `token.create`
    subject       text   NOT NULL              -- id of what it was done to
);

-- stream (distributed). A row = one epoch of one host: the only authority on what is stored of it. Written by the
-- writer: the guard (next_seq, session) is updated first in each commit; read at hello and by as-of. Dies with the
-- last of its history.
CREATE TABLE stream (
    host_id         bigint NOT NULL REFERENCES host (host_id),
    epoch_no        bigint NOT NULL,
    epoch_id        bigint NOT NULL,           -- the random id, two's complement
    boot_id         bytea  NOT NULL,           -- 16 bytes
    next_seq        bigint NOT NULL,           -- everything before it is stored, covered or in a gap
    chain           bytea  NOT NULL,           -- what the record at next_seq must carry, 8 bytes
    covered_wall_ms bigint,                    -- time of the last sample stored or covered; null = none yet
    covered_boot_us bigint,
    interval_ms     int    NOT NULL,           -- of the latest keyframe or delta that said one; 0 = none yet
    stretch         int    NOT NULL,           -- the current stretch's number; -1 = none yet
    base_seq        bigint,                    -- keyframe that the next delta builds on; null = one is wanted, and what
                                               -- comes before it is acked into the gap, not stored
    base_day        date,                      -- and its partition
    pending_reason  smallint,                  -- announced by a gap-reason record, or a refusal; used by the next keyframe
    pending_detail  text   NOT NULL,           -- goes with it into gap.detail, e.g. the words of a refusal; may be empty
    compacted_to    bigint NOT NULL,           -- records before it live in chunks
    session         bigint NOT NULL,           -- the only session that may commit
    opened_ms       bigint NOT NULL,           -- collector's clock
    end_reason      smallint,                  -- reason code once the epoch is over
    PRIMARY KEY (host_id, epoch_no)
);

-- stretch (distributed). A row = one run of samples without a gap in which wall time is monotone. The last stretch of
-- an epoch ends at stream.covered_*, every other at its own to_*. Written in the guarded commit that opens or ends it,
-- read by as-of.
CREATE TABLE stretch (
    host_id       bigint NOT NULL,
    epoch_no      bigint NOT NULL,
    stretch       int    NOT NULL,             -- counts from 0 in its epoch
    from_seq      bigint NOT NULL,             -- its first keyframe
    from_wall_ms  bigint NOT NULL,
    from_boot_us  bigint NOT NULL,
    to_wall_ms    bigint,                      -- last sample before the next stretch; null while it is the last
    to_boot_us    bigint,
    PRIMARY KEY (host_id, epoch_no, stretch)
);
CREATE INDEX stretch_from ON stretch (host_id, from_wall_ms);

-- frame (distributed, partitioned by day). A row = one record that says something: keyframe, delta, event, gap reason;
-- heartbeats only move stream.covered_*. Written in the guarded commit, read by as-of, diff and timeline.
CREATE TABLE frame (
    host_id       bigint   NOT NULL,
    epoch_no      bigint   NOT NULL,
    seq           bigint   NOT NULL,
    day           date     NOT NULL,           -- UTC day of wall_ms; 1970-01-01 for times outside 2020 .. server + 1 day
    kind          smallint NOT NULL,           -- proto/ipc/src/record.rs
    stretch       int      NOT NULL,
    wall_ms       bigint   NOT NULL,           -- host's clock; never falls within a stretch: set back by at most 500 ms
                                               -- (no clock step yet) it stands still here, the body has the clock as read
    boot_us       bigint   NOT NULL,
    prev_wall_ms  bigint,                      -- the epoch's sample before it: the state before was confirmed until then;
                                               -- null = the epoch's first
    base_seq      bigint   NOT NULL,           -- keyframe this builds on (itself, if it is one)
    base_day      date     NOT NULL,           -- and its partition
    received_ms   bigint   NOT NULL,           -- collector's clock
    body          bytea    NOT NULL,           -- packed: proto/ipc/src/codec
    PRIMARY KEY (host_id, epoch_no, seq, day)
) PARTITION BY RANGE (day);
CREATE INDEX frame_asof ON frame (host_id, epoch_no, stretch, wall_ms);

-- The fixed day for records whose own time cannot be believed: a host booted in 1970 must not fail a batch of others.
CREATE TABLE frame_fallback PARTITION OF frame FOR VALUES FROM ('1970-01-01') TO ('1970-01-02');

-- gap (distributed). A row = one closed span without samples. Written by the writer in the transaction that stores what
-- follows it (open and pending gaps are derived when read). Its key is the record that closes it.
CREATE TABLE gap (
    host_id       bigint   NOT NULL,
    epoch_no      bigint   NOT NULL,
    seq           bigint   NOT NULL,
    from_wall_ms  bigint,                      -- last sample before; null = before the host's first
    to_wall_ms    bigint   NOT NULL,           -- first sample after
    reason        smallint NOT NULL,
    detail        text     NOT NULL,           -- e.g. the database's words for a refused record, escaped; may be empty
    PRIMARY KEY (host_id, epoch_no, seq)
);
CREATE INDEX gap_to ON gap (host_id, to_wall_ms);

-- host_status (distributed). A row = the present of one host. Overwritten by each commit and `now`; no index on what
-- changes, room for HOT updates.
CREATE TABLE host_status (
    host_id         bigint NOT NULL PRIMARY KEY,
    last_seen_ms    bigint NOT NULL,           -- collector's clock at the last hello, record or `now`
    sampled_wall_ms bigint NOT NULL,           -- host's clock of its newest sample
    skew_ms         bigint NOT NULL,           -- host's clock minus the collector's, at hello and as samples
                                               -- that come at once have shown it since
    interval_ms     int    NOT NULL,
    backlog_from_ms bigint,                    -- oldest sample not yet received; null = none behind
    session         bigint NOT NULL,           -- whose row this is
    disconnected_ms bigint,                    -- when that session ended; null = it has not
    namespace       bigint,                    -- inode of the host's IPC namespace
    quarantined_ms  bigint,                    -- collector's clock when a newcomer with this host's certificate was last
                                               -- turned away; null = none since a session was opened
    quarantined_why text,                      -- a word of collector/src/host.rs, and the address
    quarantined_peer text,                     -- it came from
    sem_arrays      numeric(20,0), semmni numeric(20,0),
    semaphores      numeric(20,0), semmns numeric(20,0),
    shm_segments    numeric(20,0), shmmni numeric(20,0),
    shm_pages       numeric(20,0), shmall numeric(20,0),
    msg_queues      numeric(20,0), msgmni numeric(20,0)
) WITH (fillfactor = 70);

-- host_facts (distributed). A row = what was true of a host from this record on: change-only. Written in the guarded
-- commit, read by `hosts`, also `--at T`, and to find who bore a name.
CREATE TABLE host_facts (
    host_id       bigint   NOT NULL,
    epoch_no      bigint   NOT NULL,
    seq           bigint   NOT NULL,
    wall_ms       bigint   NOT NULL,
    state         text     NOT NULL CHECK (state IN ('available', 'absent', 'proc_hidden', 'blocked', 'unknown')),
    evidence      jsonb    NOT NULL,           -- array of escaped text
    remedy        text     NOT NULL,
    risks         jsonb    NOT NULL,           -- array of {kind, why, remedy}, escaped text; kind: proto/ipc/src/risk.rs
    name          text     NOT NULL,
    kernel        text     NOT NULL,
    arch          text     NOT NULL,
    distro        text     NOT NULL,
    agent_version text     NOT NULL,
    machine_id    text     NOT NULL,
    boot_id       bytea    NOT NULL,
    PRIMARY KEY (host_id, epoch_no, seq)
);
CREATE INDEX host_facts_name ON host_facts (name); -- who was called so, then or ever
