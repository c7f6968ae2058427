CREATE TABLE public.audit (
    audit_id bigint NOT NULL,
    at_ms bigint NOT NULL,
    who text NOT NULL,
    what text NOT NULL,
    subject text NOT NULL
);

ALTER TABLE public.audit ALTER COLUMN audit_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.audit_audit_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.certificate (
    serial bytea NOT NULL,
    host_id bigint NOT NULL,
    token_id text NOT NULL,
    spki_sha256 bytea NOT NULL,
    not_before_ms bigint NOT NULL,
    not_after_ms bigint NOT NULL,
    der bytea NOT NULL,
    revoked_ms bigint
);

CREATE TABLE public.chunk (
    host_id bigint NOT NULL,
    epoch_no bigint NOT NULL,
    stretch integer NOT NULL,
    from_wall_ms bigint NOT NULL,
    from_seq bigint NOT NULL,
    week date NOT NULL,
    to_seq bigint NOT NULL,
    to_wall_ms bigint NOT NULL,
    records integer NOT NULL,
    baseline boolean NOT NULL,
    objects bytea NOT NULL,
    body bytea NOT NULL
)
PARTITION BY RANGE (week);

CREATE TABLE public.chunk_fallback (
    host_id bigint NOT NULL,
    epoch_no bigint NOT NULL,
    stretch integer NOT NULL,
    from_wall_ms bigint NOT NULL,
    from_seq bigint NOT NULL,
    week date NOT NULL,
    to_seq bigint NOT NULL,
    to_wall_ms bigint NOT NULL,
    records integer NOT NULL,
    baseline boolean NOT NULL,
    objects bytea NOT NULL,
    body bytea NOT NULL
);

CREATE TABLE public.chunk_fresh (
    host_id bigint NOT NULL,
    epoch_no bigint NOT NULL,
    stretch integer NOT NULL,
    from_wall_ms bigint NOT NULL,
    from_seq bigint NOT NULL,
    day date NOT NULL,
    to_seq bigint NOT NULL,
    to_wall_ms bigint NOT NULL,
    records integer NOT NULL,
    objects bytea NOT NULL,
    body bytea NOT NULL
)
PARTITION BY RANGE (day);

CREATE TABLE public.chunk_fresh_fallback (
    host_id bigint NOT NULL,
    epoch_no bigint NOT NULL,
    stretch integer NOT NULL,
    from_wall_ms bigint NOT NULL,
    from_seq bigint NOT NULL,
    day date NOT NULL,
    to_seq bigint NOT NULL,
    to_wall_ms bigint NOT NULL,
    records integer NOT NULL,
    objects bytea NOT NULL,
    body bytea NOT NULL
);

CREATE TABLE public.enrolment_token (
    token_id text NOT NULL,
    secret_sha256 bytea NOT NULL,
    created_ms bigint NOT NULL,
    expires_ms bigint NOT NULL,
    uses_left integer NOT NULL,
    host_id bigint,
    labels jsonb DEFAULT '{}'::jsonb NOT NULL,
    revoked_ms bigint,
    CONSTRAINT enrolment_token_uses_left_check CHECK ((uses_left >= 0))
);

CREATE TABLE public.frame (
    host_id bigint NOT NULL,
    epoch_no bigint NOT NULL,
    seq bigint NOT NULL,
    day date NOT NULL,
    kind smallint NOT NULL,
    stretch integer NOT NULL,
    wall_ms bigint NOT NULL,
    boot_us bigint NOT NULL,
    prev_wall_ms bigint,
    base_seq bigint NOT NULL,
    base_day date NOT NULL,
    received_ms bigint NOT NULL,
    body bytea NOT NULL
)
PARTITION BY RANGE (day);

CREATE TABLE public.frame_fallback (
    host_id bigint NOT NULL,
    epoch_no bigint NOT NULL,
    seq bigint NOT NULL,
    day date NOT NULL,
    kind smallint NOT NULL,
    stretch integer NOT NULL,
    wall_ms bigint NOT NULL,
    boot_us bigint NOT NULL,
    prev_wall_ms bigint,
    base_seq bigint NOT NULL,
    base_day date NOT NULL,
    received_ms bigint NOT NULL,
    body bytea NOT NULL
);

CREATE TABLE public.gap (
    host_id bigint NOT NULL,
    epoch_no bigint NOT NULL,
    seq bigint NOT NULL,
    from_wall_ms bigint,
    to_wall_ms bigint NOT NULL,
    reason smallint NOT NULL,
    detail text NOT NULL
);

CREATE TABLE public.gap_part (
    host_id bigint NOT NULL,
    epoch_no bigint NOT NULL,
    seq bigint NOT NULL,
    namespace bigint NOT NULL,
    instance numeric(20,0) NOT NULL,
    kind smallint NOT NULL,
    from_wall_ms bigint NOT NULL,
    to_wall_ms bigint,
    detail text NOT NULL
);

CREATE TABLE public.host (
    host_id bigint NOT NULL,
    name text NOT NULL,
    labels jsonb DEFAULT '{}'::jsonb NOT NULL,
    enrolled_ms bigint NOT NULL
);

CREATE TABLE public.host_facts (
    host_id bigint NOT NULL,
    epoch_no bigint NOT NULL,
    seq bigint NOT NULL,
    wall_ms bigint NOT NULL,
    state text NOT NULL,
    evidence jsonb NOT NULL,
    remedy text NOT NULL,
    risks jsonb NOT NULL,
    name text NOT NULL,
    kernel text NOT NULL,
    arch text NOT NULL,
    distro text NOT NULL,
    agent_version text NOT NULL,
    machine_id text NOT NULL,
    boot_id bytea NOT NULL,
    CONSTRAINT host_facts_state_check CHECK ((state = ANY (ARRAY['available'::text, 'absent'::text, 'proc_hidden'::text, 'blocked'::text, 'unknown'::text])))
);

CREATE TABLE public.host_status (
    host_id bigint NOT NULL,
    last_seen_ms bigint NOT NULL,
    sampled_wall_ms bigint NOT NULL,
    skew_ms bigint NOT NULL,
    interval_ms integer NOT NULL,
    backlog_from_ms bigint,
    session bigint NOT NULL,
    disconnected_ms bigint,
    namespace bigint,
    quarantined_ms bigint,
    quarantined_why text,
    quarantined_peer text,
    sem_arrays numeric(20,0),
    semmni numeric(20,0),
    semaphores numeric(20,0),
    semmns numeric(20,0),
    shm_segments numeric(20,0),
    shmmni numeric(20,0),
    shm_pages numeric(20,0),
    shmall numeric(20,0),
    msg_queues numeric(20,0),
    msgmni numeric(20,0)
)
WITH (fillfactor='70');

CREATE TABLE public.lease (
    name text NOT NULL,
    fence bigint NOT NULL,
    holder text NOT NULL,
    until_ms bigint NOT NULL
);

CREATE TABLE public.object_now (
    host_id bigint NOT NULL,
    epoch_no bigint NOT NULL,
    seq bigint NOT NULL,
    wall_ms bigint NOT NULL,
    objects bytea NOT NULL
)
WITH (fillfactor='70');

CREATE TABLE public.operator_token (
    token_id text NOT NULL,
    name text NOT NULL,
    role text NOT NULL,
    secret_sha256 bytea NOT NULL,
    created_ms bigint NOT NULL,
    revoked_ms bigint,
    CONSTRAINT operator_token_role_check CHECK ((role = ANY (ARRAY['viewer'::text, 'operator'::text, 'admin'::text])))
);

CREATE TABLE public.owner_usage (
    host_id bigint NOT NULL,
    slot_ms bigint NOT NULL,
    month date NOT NULL,
    wall_ms bigint NOT NULL,
    boot_id bytea NOT NULL,
    namespaces bigint[] NOT NULL,
    kinds smallint[] NOT NULL,
    uids bigint[] NOT NULL,
    users text[] NOT NULL,
    comms text[] NOT NULL,
    objects bigint[] NOT NULL,
    objects_max bigint[] NOT NULL,
    semaphores bigint[] NOT NULL,
    bytes numeric[] NOT NULL,
    orphans bigint[] NOT NULL,
    certain bigint[] NOT NULL
)
PARTITION BY RANGE (month);

CREATE TABLE public.owner_usage_fallback (
    host_id bigint NOT NULL,
    slot_ms bigint NOT NULL,
    month date NOT NULL,
    wall_ms bigint NOT NULL,
    boot_id bytea NOT NULL,
    namespaces bigint[] NOT NULL,
    kinds smallint[] NOT NULL,
    uids bigint[] NOT NULL,
    users text[] NOT NULL,
    comms text[] NOT NULL,
    objects bigint[] NOT NULL,
    objects_max bigint[] NOT NULL,
    semaphores bigint[] NOT NULL,
    bytes numeric[] NOT NULL,
    orphans bigint[] NOT NULL,
    certain bigint[] NOT NULL
);

CREATE TABLE public.stream (
    host_id bigint NOT NULL,
    epoch_no bigint NOT NULL,
    epoch_id bigint NOT NULL,
    boot_id bytea NOT NULL,
    next_seq bigint NOT NULL,
    chain bytea NOT NULL,
    covered_wall_ms bigint,
    covered_boot_us bigint,
    interval_ms integer NOT NULL,
    stretch integer NOT NULL,
    base_seq bigint,
    base_day date,
    pending_reason smallint,
    pending_detail text NOT NULL,
    compacted_to bigint NOT NULL,
    session bigint NOT NULL,
    opened_ms bigint NOT NULL,
    end_reason smallint,
    framed_to bigint DEFAULT 0 NOT NULL,
    merged_to bigint DEFAULT 0 NOT NULL,
    after_epoch_no bigint,
    after_stretch integer
);

CREATE TABLE public.stretch (
    host_id bigint NOT NULL,
    epoch_no bigint NOT NULL,
    stretch integer NOT NULL,
    from_seq bigint NOT NULL,
    from_wall_ms bigint NOT NULL,
    from_boot_us bigint NOT NULL,
    to_wall_ms bigint,
    to_boot_us bigint
);

CREATE TABLE public.usage (
    host_id bigint NOT NULL,
    namespace bigint NOT NULL,
    instance numeric(20,0) NOT NULL,
    slot_ms bigint NOT NULL,
    month date NOT NULL,
    own boolean NOT NULL,
    sem_arrays numeric(20,0),
    sem_arrays_max numeric(20,0),
    semmni numeric(20,0),
    semaphores numeric(20,0),
    semaphores_max numeric(20,0),
    semmns numeric(20,0),
    shm_segments numeric(20,0),
    shm_segments_max numeric(20,0),
    shmmni numeric(20,0),
    shm_pages numeric(20,0),
    shm_pages_max numeric(20,0),
    shmall numeric(20,0),
    msg_queues numeric(20,0),
    msg_queues_max numeric(20,0),
    msgmni numeric(20,0)
)
PARTITION BY RANGE (month);

CREATE TABLE public.usage_fallback (
    host_id bigint NOT NULL,
    namespace bigint NOT NULL,
    instance numeric(20,0) NOT NULL,
    slot_ms bigint NOT NULL,
    month date NOT NULL,
    own boolean NOT NULL,
    sem_arrays numeric(20,0),
    sem_arrays_max numeric(20,0),
    semmni numeric(20,0),
    semaphores numeric(20,0),
    semaphores_max numeric(20,0),
    semmns numeric(20,0),
    shm_segments numeric(20,0),
    shm_segments_max numeric(20,0),
    shmmni numeric(20,0),
    shm_pages numeric(20,0),
    shm_pages_max numeric(20,0),
    shmall numeric(20,0),
    msg_queues numeric(20,0),
    msg_queues_max numeric(20,0),
    msgmni numeric(20,0)
);

CREATE TABLE public.usage_hour (
    host_id bigint NOT NULL,
    namespace bigint NOT NULL,
    instance numeric(20,0) NOT NULL,
    slot_ms bigint NOT NULL,
    year date NOT NULL,
    own boolean NOT NULL,
    sem_arrays numeric(20,0),
    sem_arrays_max numeric(20,0),
    semmni numeric(20,0),
    semaphores numeric(20,0),
    semaphores_max numeric(20,0),
    semmns numeric(20,0),
    shm_segments numeric(20,0),
    shm_segments_max numeric(20,0),
    shmmni numeric(20,0),
    shm_pages numeric(20,0),
    shm_pages_max numeric(20,0),
    shmall numeric(20,0),
    msg_queues numeric(20,0),
    msg_queues_max numeric(20,0),
    msgmni numeric(20,0)
)
PARTITION BY RANGE (year);

CREATE TABLE public.usage_hour_fallback (
    host_id bigint NOT NULL,
    namespace bigint NOT NULL,
    instance numeric(20,0) NOT NULL,
    slot_ms bigint NOT NULL,
    year date NOT NULL,
    own boolean NOT NULL,
    sem_arrays numeric(20,0),
    sem_arrays_max numeric(20,0),
    semmni numeric(20,0),
    semaphores numeric(20,0),
    semaphores_max numeric(20,0),
    semmns numeric(20,0),
    shm_segments numeric(20,0),
    shm_segments_max numeric(20,0),
    shmmni numeric(20,0),
    shm_pages numeric(20,0),
    shm_pages_max numeric(20,0),
    shmall numeric(20,0),
    msg_queues numeric(20,0),
    msg_queues_max numeric(20,0),
    msgmni numeric(20,0)
);

ALTER TABLE ONLY public.chunk ATTACH PARTITION public.chunk_fallback FOR VALUES FROM ('1970-01-01') TO ('1970-01-02');

ALTER TABLE ONLY public.chunk_fresh ATTACH PARTITION public.chunk_fresh_fallback FOR VALUES FROM ('1970-01-01') TO ('1970-01-02');

ALTER TABLE ONLY public.frame ATTACH PARTITION public.frame_fallback FOR VALUES FROM ('1970-01-01') TO ('1970-01-02');

ALTER TABLE ONLY public.owner_usage ATTACH PARTITION public.owner_usage_fallback FOR VALUES FROM ('1970-01-01') TO ('1970-01-02');

ALTER TABLE ONLY public.usage ATTACH PARTITION public.usage_fallback FOR VALUES FROM ('1970-01-01') TO ('1970-01-02');

ALTER TABLE ONLY public.usage_hour ATTACH PARTITION public.usage_hour_fallback FOR VALUES FROM ('1970-01-01') TO ('1970-01-02');

ALTER TABLE ONLY public.audit
    ADD CONSTRAINT audit_pkey PRIMARY KEY (audit_id);

ALTER TABLE ONLY public.certificate
    ADD CONSTRAINT certificate_pkey PRIMARY KEY (serial);

ALTER TABLE ONLY public.certificate
    ADD CONSTRAINT certificate_token_id_spki_sha256_key UNIQUE (token_id, spki_sha256);

ALTER TABLE ONLY public.chunk
    ADD CONSTRAINT chunk_pkey PRIMARY KEY (host_id, epoch_no, stretch, from_wall_ms, from_seq, week);

ALTER TABLE ONLY public.chunk_fallback
    ADD CONSTRAINT chunk_fallback_pkey PRIMARY KEY (host_id, epoch_no, stretch, from_wall_ms, from_seq, week);

ALTER TABLE ONLY public.chunk_fresh
    ADD CONSTRAINT chunk_fresh_pkey PRIMARY KEY (host_id, epoch_no, stretch, from_wall_ms, from_seq, day);

ALTER TABLE ONLY public.chunk_fresh_fallback
    ADD CONSTRAINT chunk_fresh_fallback_pkey PRIMARY KEY (host_id, epoch_no, stretch, from_wall_ms, from_seq, day);

ALTER TABLE ONLY public.enrolment_token
    ADD CONSTRAINT enrolment_token_pkey PRIMARY KEY (token_id);

ALTER TABLE ONLY public.frame
    ADD CONSTRAINT frame_pkey PRIMARY KEY (host_id, epoch_no, seq, day);

ALTER TABLE ONLY public.frame_fallback
    ADD CONSTRAINT frame_fallback_pkey PRIMARY KEY (host_id, epoch_no, seq, day);

ALTER TABLE ONLY public.gap_part
    ADD CONSTRAINT gap_part_pkey PRIMARY KEY (host_id, epoch_no, seq, namespace, instance, kind);

ALTER TABLE ONLY public.gap
    ADD CONSTRAINT gap_pkey PRIMARY KEY (host_id, epoch_no, seq);

ALTER TABLE ONLY public.host_facts
    ADD CONSTRAINT host_facts_pkey PRIMARY KEY (host_id, epoch_no, seq);

ALTER TABLE ONLY public.host
    ADD CONSTRAINT host_pkey PRIMARY KEY (host_id);

ALTER TABLE ONLY public.host_status
    ADD CONSTRAINT host_status_pkey PRIMARY KEY (host_id);

ALTER TABLE ONLY public.lease
    ADD CONSTRAINT lease_pkey PRIMARY KEY (name);

ALTER TABLE ONLY public.object_now
    ADD CONSTRAINT object_now_pkey PRIMARY KEY (host_id);

ALTER TABLE ONLY public.operator_token
    ADD CONSTRAINT operator_token_pkey PRIMARY KEY (token_id);

ALTER TABLE ONLY public.owner_usage
    ADD CONSTRAINT owner_usage_pkey PRIMARY KEY (host_id, slot_ms, month);

ALTER TABLE ONLY public.owner_usage_fallback
    ADD CONSTRAINT owner_usage_fallback_pkey PRIMARY KEY (host_id, slot_ms, month);

ALTER TABLE ONLY public.stream
    ADD CONSTRAINT stream_pkey PRIMARY KEY (host_id, epoch_no);

ALTER TABLE ONLY public.stretch
    ADD CONSTRAINT stretch_pkey PRIMARY KEY (host_id, epoch_no, stretch);

ALTER TABLE ONLY public.usage
    ADD CONSTRAINT usage_pkey PRIMARY KEY (host_id, namespace, instance, slot_ms, month);

ALTER TABLE ONLY public.usage_fallback
    ADD CONSTRAINT usage_fallback_pkey PRIMARY KEY (host_id, namespace, instance, slot_ms, month);

ALTER TABLE ONLY public.usage_hour
    ADD CONSTRAINT usage_hour_pkey PRIMARY KEY (host_id, namespace, instance, slot_ms, year);

ALTER TABLE ONLY public.usage_hour_fallback
    ADD CONSTRAINT usage_hour_fallback_pkey PRIMARY KEY (host_id, namespace, instance, slot_ms, year);

CREATE INDEX certificate_host ON public.certificate USING btree (host_id);

CREATE INDEX frame_asof ON ONLY public.frame USING btree (host_id, epoch_no, stretch, wall_ms);

CREATE INDEX frame_fallback_host_id_epoch_no_stretch_wall_ms_idx ON public.frame_fallback USING btree (host_id, epoch_no, stretch, wall_ms);

CREATE INDEX gap_to ON public.gap USING btree (host_id, to_wall_ms);

CREATE INDEX host_facts_name ON public.host_facts USING btree (name);

CREATE INDEX host_name ON public.host USING btree (name);

CREATE INDEX stretch_from ON public.stretch USING btree (host_id, from_wall_ms);

ALTER INDEX public.chunk_pkey ATTACH PARTITION public.chunk_fallback_pkey;

ALTER INDEX public.chunk_fresh_pkey ATTACH PARTITION public.chunk_fresh_fallback_pkey;

ALTER INDEX public.frame_asof ATTACH PARTITION public.frame_fallback_host_id_epoch_no_stretch_wall_ms_idx;

ALTER INDEX public.frame_pkey ATTACH PARTITION public.frame_fallback_pkey;

ALTER INDEX public.owner_usage_pkey ATTACH PARTITION public.owner_usage_fallback_pkey;

ALTER INDEX public.usage_pkey ATTACH PARTITION public.usage_fallback_pkey;

ALTER INDEX public.usage_hour_pkey ATTACH PARTITION public.usage_hour_fallback_pkey;

ALTER TABLE ONLY public.certificate
    ADD CONSTRAINT certificate_host_id_fkey FOREIGN KEY (host_id) REFERENCES public.host(host_id);

ALTER TABLE ONLY public.certificate
    ADD CONSTRAINT certificate_token_id_fkey FOREIGN KEY (token_id) REFERENCES public.enrolment_token(token_id);

ALTER TABLE ONLY public.enrolment_token
    ADD CONSTRAINT enrolment_token_host_id_fkey FOREIGN KEY (host_id) REFERENCES public.host(host_id);

ALTER TABLE ONLY public.stream
    ADD CONSTRAINT stream_host_id_fkey FOREIGN KEY (host_id) REFERENCES public.host(host_id);
