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
    prev_wall_ms bigint,
    records integer NOT NULL,
    baseline boolean NOT NULL,
    objects bytea NOT NULL,
    body bytea NOT NULL
)
PARTITION BY RANGE (week);

CREATE TABLE public.chunk_fresh (
    host_id bigint NOT NULL,
    epoch_no bigint NOT NULL,
    stretch integer NOT NULL,
    from_wall_ms bigint NOT NULL,
    from_seq bigint NOT NULL,
    day date NOT NULL,
    to_seq bigint NOT NULL,
    to_wall_ms bigint NOT NULL,
    prev_wall_ms bigint,
    records integer NOT NULL,
    objects bytea NOT NULL,
    body bytea NOT NULL
)
PARTITION BY RANGE (day);

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

CREATE TABLE public.flag (
    host_id bigint NOT NULL,
    flag_id bigint NOT NULL,
    namespace bigint NOT NULL,
    resource text NOT NULL,
    kind text NOT NULL,
    severity text NOT NULL,
    state text NOT NULL,
    raised_ms bigint NOT NULL,
    cleared_ms bigint,
    used numeric(20,0),
    limit_ numeric(20,0),
    growth_per_hour double precision,
    eta_ms bigint,
    eta_low_ms bigint,
    eta_high_ms bigint,
    owner_uid bigint,
    owner_user text,
    owner_comm text,
    owner_arrays bigint,
    owner_orphans bigint,
    why text NOT NULL,
    remedy jsonb NOT NULL,
    instance numeric(20,0) DEFAULT 0 NOT NULL,
    own boolean DEFAULT true NOT NULL,
    cause jsonb,
    follows bigint,
    audible boolean DEFAULT true NOT NULL,
    note text,
    noted_by text,
    noted_ms bigint,
    told smallint DEFAULT 0 NOT NULL,
    notices integer DEFAULT 0 NOT NULL,
    CONSTRAINT flag_kind_check CHECK ((kind = ANY (ARRAY['trend'::text, 'tight'::text, 'refusing'::text]))),
    CONSTRAINT flag_severity_check CHECK ((severity = ANY (ARRAY['warning'::text, 'critical'::text]))),
    CONSTRAINT flag_state_check CHECK ((state = ANY (ARRAY['open'::text, 'acknowledged'::text, 'silenced'::text, 'cleared'::text])))
);

CREATE TABLE public.flag_event (
    host_id bigint NOT NULL,
    flag_id bigint NOT NULL,
    no integer NOT NULL,
    at_ms bigint NOT NULL,
    epoch_no bigint NOT NULL,
    seq bigint NOT NULL,
    what text NOT NULL,
    severity text NOT NULL,
    CONSTRAINT flag_event_severity_check CHECK ((severity = ANY (ARRAY['warning'::text, 'critical'::text]))),
    CONSTRAINT flag_event_what_check CHECK ((what = ANY (ARRAY['raised'::text, 'worsened'::text, 'eased'::text, 'cleared'::text])))
);

CREATE TABLE public.flag_state (
    host_id bigint NOT NULL,
    near real NOT NULL,
    body bytea NOT NULL
)
WITH (fillfactor='70');

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

CREATE TABLE public.notice (
    host_id bigint NOT NULL,
    flag_id bigint NOT NULL,
    number integer NOT NULL,
    receiver text NOT NULL,
    transition text NOT NULL,
    body text NOT NULL,
    state text NOT NULL,
    queued_ms bigint NOT NULL,
    due_ms bigint,
    tries integer NOT NULL,
    failing_ms bigint,
    failed_ms bigint,
    error text,
    sent_ms bigint,
    CONSTRAINT notice_state_check CHECK ((state = ANY (ARRAY['waiting'::text, 'sent'::text, 'given_up'::text, 'tested'::text]))),
    CONSTRAINT notice_transition_check CHECK ((transition = ANY (ARRAY['raised'::text, 'worsened'::text, 'eased'::text, 'cleared'::text, 'test'::text])))
)
WITH (fillfactor='80');

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
    namespaces bigint[],
    kinds smallint[] NOT NULL,
    uids bigint[] NOT NULL,
    users text[],
    comms text[],
    objects integer[] NOT NULL,
    objects_max integer[],
    semaphores bigint[],
    bytes numeric[],
    orphans integer[],
    certain integer[],
    own bigint,
    own_instance bigint,
    instances bigint[]
)
PARTITION BY RANGE (month);

CREATE TABLE public.silence (
    host_id bigint NOT NULL,
    until_ms bigint NOT NULL,
    note text NOT NULL,
    made_by text NOT NULL,
    made_ms bigint NOT NULL
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
    from_ms bigint NOT NULL,
    month date NOT NULL,
    own boolean NOT NULL,
    slots smallint[] NOT NULL,
    sem_arrays numeric[] NOT NULL,
    sem_arrays_max numeric[] NOT NULL,
    semmni numeric[] NOT NULL,
    semaphores numeric[] NOT NULL,
    semaphores_max numeric[] NOT NULL,
    semmns numeric[] NOT NULL,
    shm_segments numeric[] NOT NULL,
    shm_segments_max numeric[] NOT NULL,
    shmmni numeric[] NOT NULL,
    shm_pages numeric[] NOT NULL,
    shm_pages_max numeric[] NOT NULL,
    shmall numeric[] NOT NULL,
    msg_queues numeric[] NOT NULL,
    msg_queues_max numeric[] NOT NULL,
    msgmni numeric[] NOT NULL
)
PARTITION BY RANGE (month);

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

CREATE TABLE public.usage_pack (
    host_id bigint NOT NULL,
    namespace bigint NOT NULL,
    instance numeric(20,0) NOT NULL,
    from_ms bigint NOT NULL,
    year date NOT NULL,
    own boolean NOT NULL,
    is_there boolean NOT NULL,
    body bytea NOT NULL
)
PARTITION BY RANGE (year);

CREATE VIEW public.v_flag AS
 SELECT lpad(to_hex(f.flag_id), 16, '0'::text) AS id,
    lpad(to_hex(f.host_id), 16, '0'::text) AS host_id,
    h.name AS host,
    f.namespace,
    f.resource,
    f.kind,
    f.severity,
    f.state,
    to_timestamp((((LEAST(GREATEST(f.raised_ms, '-62135596800000'::bigint), '253402300799999'::bigint))::numeric / 1000.0))::double precision) AS raised_at,
        CASE
            WHEN (f.cleared_ms IS NOT NULL) THEN to_timestamp((((LEAST(GREATEST(f.cleared_ms, '-62135596800000'::bigint), '253402300799999'::bigint))::numeric / 1000.0))::double precision)
            ELSE NULL::timestamp with time zone
        END AS cleared_at,
    f.used,
    f.limit_,
    f.growth_per_hour,
        CASE
            WHEN (f.eta_ms IS NOT NULL) THEN to_timestamp((((LEAST(GREATEST(f.eta_ms, '-62135596800000'::bigint), '253402300799999'::bigint))::numeric / 1000.0))::double precision)
            ELSE NULL::timestamp with time zone
        END AS eta,
        CASE
            WHEN (f.eta_low_ms IS NOT NULL) THEN to_timestamp((((LEAST(GREATEST(f.eta_low_ms, '-62135596800000'::bigint), '253402300799999'::bigint))::numeric / 1000.0))::double precision)
            ELSE NULL::timestamp with time zone
        END AS eta_low,
        CASE
            WHEN (f.eta_high_ms IS NOT NULL) THEN to_timestamp((((LEAST(GREATEST(f.eta_high_ms, '-62135596800000'::bigint), '253402300799999'::bigint))::numeric / 1000.0))::double precision)
            ELSE NULL::timestamp with time zone
        END AS eta_high,
    f.owner_uid,
    f.owner_user,
    f.owner_comm,
    f.owner_arrays,
    f.owner_orphans,
    f.why,
    f.remedy
   FROM (public.flag f
     JOIN public.host h ON ((h.host_id = f.host_id)));

COMMENT ON VIEW public.v_flag IS 'One row per flag, open or cleared.';

CREATE VIEW public.v_gap AS
 SELECT lpad(to_hex(g.host_id), 16, '0'::text) AS host_id,
    h.name AS host,
    NULL::bigint AS namespace,
    NULL::text AS kind,
        CASE
            WHEN (g.from_wall_ms IS NOT NULL) THEN to_timestamp((((LEAST(GREATEST(g.from_wall_ms, '-62135596800000'::bigint), '253402300799999'::bigint))::numeric / 1000.0))::double precision)
            ELSE NULL::timestamp with time zone
        END AS began,
    to_timestamp((((LEAST(GREATEST(g.to_wall_ms, '-62135596800000'::bigint), '253402300799999'::bigint))::numeric / 1000.0))::double precision) AS ended,
        CASE g.reason
            WHEN 1 THEN 'agent_stopped'::text
            WHEN 2 THEN 'agent_killed'::text
            WHEN 3 THEN 'host_down'::text
            WHEN 4 THEN 'suspended'::text
            WHEN 5 THEN 'stalled'::text
            WHEN 6 THEN 'spool_overflow'::text
            WHEN 7 THEN 'spool_damaged'::text
            WHEN 8 THEN 'unreachable'::text
            WHEN 9 THEN 'forked'::text
            WHEN 10 THEN 'state_lost'::text
            WHEN 11 THEN 'history_restored'::text
            WHEN 12 THEN 'refused_record'::text
            WHEN 13 THEN 'unreadable'::text
            WHEN 14 THEN 'quarantined'::text
            WHEN 15 THEN 'retention'::text
            WHEN 16 THEN 'before_first'::text
            ELSE 'unexplained'::text
        END AS reason,
    g.detail
   FROM (public.gap g
     JOIN public.host h ON ((h.host_id = g.host_id)))
UNION ALL
 SELECT lpad(to_hex(p.host_id), 16, '0'::text) AS host_id,
    h.name AS host,
    p.namespace,
        CASE p.kind
            WHEN 0 THEN 'sem'::text
            WHEN 1 THEN 'shm'::text
            WHEN 2 THEN 'msg'::text
            ELSE NULL::text
        END AS kind,
    to_timestamp((((LEAST(GREATEST(p.from_wall_ms, '-62135596800000'::bigint), '253402300799999'::bigint))::numeric / 1000.0))::double precision) AS began,
        CASE
            WHEN (COALESCE(p.to_wall_ms, t.covered_wall_ms) IS NOT NULL) THEN to_timestamp((((LEAST(GREATEST(COALESCE(p.to_wall_ms, t.covered_wall_ms), '-62135596800000'::bigint), '253402300799999'::bigint))::numeric / 1000.0))::double precision)
            ELSE NULL::timestamp with time zone
        END AS ended,
    'unreadable'::text AS reason,
    p.detail
   FROM ((public.gap_part p
     JOIN public.host h ON ((h.host_id = p.host_id)))
     LEFT JOIN public.stream t ON (((t.host_id = p.host_id) AND (t.epoch_no = p.epoch_no) AND (EXISTS ( SELECT
           FROM public.stream n
          WHERE ((n.host_id = t.host_id) AND (n.epoch_no > t.epoch_no) AND (n.after_epoch_no IS NULL)))))));

COMMENT ON VIEW public.v_gap IS 'One row per span without data, of a host or of one kind of objects in one of its namespaces.';

CREATE VIEW public.v_host_now AS
 SELECT lpad(to_hex(r.host_id), 16, '0'::text) AS id,
    r.name,
    r.labels,
    to_timestamp((((LEAST(GREATEST(r.last_seen_ms, '-62135596800000'::bigint), '253402300799999'::bigint))::numeric / 1000.0))::double precision) AS last_seen,
    to_timestamp((((LEAST(GREATEST(r.sampled_wall_ms, '-62135596800000'::bigint), '253402300799999'::bigint))::numeric / 1000.0))::double precision) AS sampled_at,
        CASE
            WHEN (abs((r.now_ms - r.last_seen_ms)) <= GREATEST((3 * (r.interval_ms)::bigint), (3000)::bigint)) THEN 'live'::text
            WHEN (r.quarantined_ms >= (r.now_ms - 120000)) THEN 'quarantined'::text
            WHEN ((r.now_ms - r.last_seen_ms) >
            CASE
                WHEN ((r.labels ->> 'ephemeral'::text) = '1'::text) THEN 3600000
                ELSE 604800000
            END) THEN 'gone'::text
            ELSE 'silent'::text
        END AS lifecycle,
    COALESCE(r.state, 'unknown'::text) AS state,
    r.kernel,
    r.arch,
    r.distro,
    r.agent_version,
    r.namespace,
    r.sem_arrays,
    r.semmni,
    r.semaphores,
    r.semmns,
    r.shm_segments,
    r.shmmni,
    r.shm_pages,
    r.shmall,
    r.msg_queues,
    r.msgmni,
        CASE GREATEST(r.semmni_ratio, r.semmns_ratio, r.shmmni_ratio, r.shmall_ratio, r.msgmni_ratio)
            WHEN r.semmni_ratio THEN 'SEMMNI'::text
            WHEN r.semmns_ratio THEN 'SEMMNS'::text
            WHEN r.shmmni_ratio THEN 'SHMMNI'::text
            WHEN r.shmall_ratio THEN 'SHMALL'::text
            WHEN r.msgmni_ratio THEN 'MSGMNI'::text
            ELSE NULL::text
        END AS worst_resource,
    (GREATEST(r.semmni_ratio, r.semmns_ratio, r.shmmni_ratio, r.shmall_ratio, r.msgmni_ratio))::double precision AS worst_ratio
   FROM ( SELECT h.host_id,
            h.name,
            h.labels,
            s.last_seen_ms,
            s.sampled_wall_ms,
            s.interval_ms,
            s.quarantined_ms,
            s.namespace,
            s.sem_arrays,
            s.semmni,
            s.semaphores,
            s.semmns,
            s.shm_segments,
            s.shmmni,
            s.shm_pages,
            s.shmall,
            s.msg_queues,
            s.msgmni,
            f.state,
            f.kernel,
            f.arch,
            f.distro,
            f.agent_version,
            ((EXTRACT(epoch FROM statement_timestamp()) * (1000)::numeric))::bigint AS now_ms,
                CASE
                    WHEN (s.sem_arrays IS NOT NULL) THEN COALESCE((s.sem_arrays / NULLIF(s.semmni, (0)::numeric)), (
                    CASE s.semmni
                        WHEN 0 THEN 1
                        ELSE NULL::integer
                    END)::numeric)
                    ELSE NULL::numeric
                END AS semmni_ratio,
                CASE
                    WHEN (s.semaphores IS NOT NULL) THEN COALESCE((s.semaphores / NULLIF(s.semmns, (0)::numeric)), (
                    CASE s.semmns
                        WHEN 0 THEN 1
                        ELSE NULL::integer
                    END)::numeric)
                    ELSE NULL::numeric
                END AS semmns_ratio,
                CASE
                    WHEN (s.shm_segments IS NOT NULL) THEN COALESCE((s.shm_segments / NULLIF(s.shmmni, (0)::numeric)), (
                    CASE s.shmmni
                        WHEN 0 THEN 1
                        ELSE NULL::integer
                    END)::numeric)
                    ELSE NULL::numeric
                END AS shmmni_ratio,
                CASE
                    WHEN (s.shm_pages IS NOT NULL) THEN COALESCE((s.shm_pages / NULLIF(s.shmall, (0)::numeric)), (
                    CASE s.shmall
                        WHEN 0 THEN 1
                        ELSE NULL::integer
                    END)::numeric)
                    ELSE NULL::numeric
                END AS shmall_ratio,
                CASE
                    WHEN (s.msg_queues IS NOT NULL) THEN COALESCE((s.msg_queues / NULLIF(s.msgmni, (0)::numeric)), (
                    CASE s.msgmni
                        WHEN 0 THEN 1
                        ELSE NULL::integer
                    END)::numeric)
                    ELSE NULL::numeric
                END AS msgmni_ratio
           FROM ((public.host_status s
             JOIN public.host h ON ((h.host_id = s.host_id)))
             LEFT JOIN LATERAL ( SELECT hf.host_id,
                    hf.epoch_no,
                    hf.seq,
                    hf.wall_ms,
                    hf.state,
                    hf.evidence,
                    hf.remedy,
                    hf.risks,
                    hf.name,
                    hf.kernel,
                    hf.arch,
                    hf.distro,
                    hf.agent_version,
                    hf.machine_id,
                    hf.boot_id
                   FROM public.host_facts hf
                  WHERE (hf.host_id = s.host_id)
                  ORDER BY hf.epoch_no DESC, hf.seq DESC
                 LIMIT 1) f ON (true))) r;

COMMENT ON VIEW public.v_host_now IS 'One row per host that has reported: its present.';

CREATE VIEW public.v_owner_now AS
 SELECT lpad(to_hex(o.host_id), 16, '0'::text) AS host_id,
    h.name AS host,
    to_timestamp((((LEAST(GREATEST(o.slot_ms, '-62135596800000'::bigint), '253402300799999'::bigint))::numeric / 1000.0))::double precision) AS slot,
    to_timestamp((((LEAST(GREATEST(o.wall_ms, '-62135596800000'::bigint), '253402300799999'::bigint))::numeric / 1000.0))::double precision) AS as_of,
        CASE
            WHEN (e.kind IS NOT NULL) THEN COALESCE(e.namespace, o.own)
            ELSE NULL::bigint
        END AS namespace,
        CASE
            WHEN (e.kind IS NOT NULL) THEN (e.namespace IS NULL)
            ELSE NULL::boolean
        END AS own,
        CASE e.kind
            WHEN 0 THEN 'sem'::text
            WHEN 1 THEN 'shm'::text
            WHEN 2 THEN 'msg'::text
            ELSE NULL::text
        END AS kind,
    e.uid,
    e.user_name,
    e.comm,
    (e.objects)::bigint AS objects,
    (COALESCE(e.objects_max, e.objects))::bigint AS objects_max,
        CASE
            WHEN (e.objects IS NOT NULL) THEN COALESCE(e.semaphores, (0)::bigint)
            ELSE NULL::bigint
        END AS semaphores,
        CASE
            WHEN (e.objects IS NOT NULL) THEN COALESCE(e.bytes, (0)::numeric)
            ELSE NULL::numeric
        END AS bytes,
        CASE
            WHEN (e.objects IS NOT NULL) THEN (COALESCE(e.orphans, 0))::bigint
            ELSE NULL::bigint
        END AS orphans,
        CASE
            WHEN (e.objects IS NOT NULL) THEN (COALESCE(e.certain, 0))::bigint
            ELSE NULL::bigint
        END AS certain
   FROM (((public.host_status s
     JOIN public.host h ON ((h.host_id = s.host_id)))
     CROSS JOIN LATERAL ( SELECT u.host_id,
            u.slot_ms,
            u.month,
            u.wall_ms,
            u.boot_id,
            u.namespaces,
            u.kinds,
            u.uids,
            u.users,
            u.comms,
            u.objects,
            u.objects_max,
            u.semaphores,
            u.bytes,
            u.orphans,
            u.certain,
            u.own,
            u.own_instance,
            u.instances
           FROM public.owner_usage u
          WHERE ((u.host_id = s.host_id) AND (u.slot_ms <= s.sampled_wall_ms))
          ORDER BY u.slot_ms DESC
         LIMIT 1) o)
     CROSS JOIN LATERAL UNNEST(o.namespaces, o.instances, o.kinds, o.uids, o.users, o.comms, o.objects, o.objects_max, o.semaphores, o.bytes, o.orphans, o.certain) e(namespace, instance, kind, uid, user_name, comm, objects, objects_max, semaphores, bytes, orphans, certain))
  WHERE (e.objects IS DISTINCT FROM 0);

COMMENT ON VIEW public.v_owner_now IS 'One row per host, namespace, kind and owner that holds something.';

CREATE VIEW public.v_usage AS
 SELECT lpad(to_hex(u.host_id), 16, '0'::text) AS host_id,
    h.name AS host,
    u.namespace,
    u.own,
    r.resource,
    to_timestamp((((LEAST(GREATEST((u.from_ms + (s.slot * (600000)::bigint)), '-62135596800000'::bigint), '253402300799999'::bigint))::numeric / 1000.0))::double precision) AS slot,
    s.used,
    COALESCE(s.peak, s.used) AS peak,
    s.limit_,
    (COALESCE((s.used / NULLIF(s.limit_, (0)::numeric)), (
        CASE
            WHEN ((s.limit_ = (0)::numeric) AND (s.used IS NOT NULL)) THEN 1
            ELSE NULL::integer
        END)::numeric))::double precision AS ratio,
    (u.from_ms + (s.slot * (600000)::bigint)) AS slot_ms,
    u.month,
    u.from_ms
   FROM (((public.usage u
     JOIN public.host h ON ((h.host_id = u.host_id)))
     CROSS JOIN LATERAL ( VALUES ('SEMMNI'::text,u.sem_arrays,u.sem_arrays_max,u.semmni), ('SEMMNS'::text,u.semaphores,u.semaphores_max,u.semmns), ('SHMMNI'::text,u.shm_segments,u.shm_segments_max,u.shmmni), ('SHMALL'::text,u.shm_pages,u.shm_pages_max,u.shmall), ('MSGMNI'::text,u.msg_queues,u.msg_queues_max,u.msgmni)) r(resource, used, peak, limit_))
     CROSS JOIN LATERAL UNNEST(u.slots, r.used, r.peak, r.limit_) s(slot, used, peak, limit_));

COMMENT ON VIEW public.v_usage IS 'One row per host, namespace, resource and ten minutes in which something of it changed.';

CREATE VIEW public.v_usage_hour AS
 SELECT lpad(to_hex(u.host_id), 16, '0'::text) AS host_id,
    h.name AS host,
    u.namespace,
    u.own,
    r.resource,
    to_timestamp((((LEAST(GREATEST(u.slot_ms, '-62135596800000'::bigint), '253402300799999'::bigint))::numeric / 1000.0))::double precision) AS slot,
    r.used,
    r.peak,
    r.limit_,
    (COALESCE((r.used / NULLIF(r.limit_, (0)::numeric)), (
        CASE
            WHEN ((r.limit_ = (0)::numeric) AND (r.used IS NOT NULL)) THEN 1
            ELSE NULL::integer
        END)::numeric))::double precision AS ratio,
    u.slot_ms,
    u.year,
    u.slot_ms AS from_ms
   FROM ((public.usage_hour u
     JOIN public.host h ON ((h.host_id = u.host_id)))
     CROSS JOIN LATERAL UNNEST(ARRAY['SEMMNI'::text, 'SEMMNS'::text, 'SHMMNI'::text, 'SHMALL'::text, 'MSGMNI'::text], ARRAY[u.sem_arrays, u.semaphores, u.shm_segments, u.shm_pages, u.msg_queues], ARRAY[u.sem_arrays_max, u.semaphores_max, u.shm_segments_max, u.shm_pages_max, u.msg_queues_max], ARRAY[u.semmni, u.semmns, u.shmmni, u.shmall, u.msgmni]) r(resource, used, peak, limit_));

COMMENT ON VIEW public.v_usage_hour IS 'The same by the hour, kept longer.';

ALTER TABLE ONLY public.frame ATTACH PARTITION public.frame_fallback FOR VALUES FROM ('1970-01-01') TO ('1970-01-02');

ALTER TABLE ONLY public.audit
    ADD CONSTRAINT audit_pkey PRIMARY KEY (audit_id);

ALTER TABLE ONLY public.certificate
    ADD CONSTRAINT certificate_pkey PRIMARY KEY (serial);

ALTER TABLE ONLY public.certificate
    ADD CONSTRAINT certificate_token_id_spki_sha256_key UNIQUE (token_id, spki_sha256);

ALTER TABLE ONLY public.chunk_fresh
    ADD CONSTRAINT chunk_fresh_pkey PRIMARY KEY (host_id, epoch_no, stretch, from_wall_ms, to_seq, day);

ALTER TABLE ONLY public.chunk
    ADD CONSTRAINT chunk_pkey PRIMARY KEY (host_id, epoch_no, stretch, from_wall_ms, to_seq, week);

ALTER TABLE ONLY public.enrolment_token
    ADD CONSTRAINT enrolment_token_pkey PRIMARY KEY (token_id);

ALTER TABLE ONLY public.flag_event
    ADD CONSTRAINT flag_event_pkey PRIMARY KEY (host_id, flag_id, no);

ALTER TABLE ONLY public.flag
    ADD CONSTRAINT flag_pkey PRIMARY KEY (host_id, flag_id);

ALTER TABLE ONLY public.flag_state
    ADD CONSTRAINT flag_state_pkey PRIMARY KEY (host_id);

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

ALTER TABLE ONLY public.notice
    ADD CONSTRAINT notice_pkey PRIMARY KEY (host_id, flag_id, number, receiver);

ALTER TABLE ONLY public.object_now
    ADD CONSTRAINT object_now_pkey PRIMARY KEY (host_id);

ALTER TABLE ONLY public.operator_token
    ADD CONSTRAINT operator_token_pkey PRIMARY KEY (token_id);

ALTER TABLE ONLY public.owner_usage
    ADD CONSTRAINT owner_usage_pkey PRIMARY KEY (host_id, slot_ms, month);

ALTER TABLE ONLY public.silence
    ADD CONSTRAINT silence_pkey PRIMARY KEY (host_id);

ALTER TABLE ONLY public.stream
    ADD CONSTRAINT stream_pkey PRIMARY KEY (host_id, epoch_no);

ALTER TABLE ONLY public.stretch
    ADD CONSTRAINT stretch_pkey PRIMARY KEY (host_id, epoch_no, stretch);

ALTER TABLE ONLY public.usage_hour
    ADD CONSTRAINT usage_hour_pkey PRIMARY KEY (host_id, namespace, instance, slot_ms, year);

ALTER TABLE ONLY public.usage_pack
    ADD CONSTRAINT usage_pack_pkey PRIMARY KEY (host_id, namespace, instance, own, from_ms, year);

ALTER TABLE ONLY public.usage
    ADD CONSTRAINT usage_pkey PRIMARY KEY (host_id, namespace, instance, from_ms, month);

CREATE INDEX certificate_host ON public.certificate USING btree (host_id);

CREATE INDEX host_facts_name ON public.host_facts USING btree (name);

CREATE INDEX host_name ON public.host USING btree (name);

CREATE INDEX notice_due ON public.notice USING btree (receiver, due_ms) WHERE (due_ms IS NOT NULL);

CREATE INDEX stretch_from ON public.stretch USING btree (host_id, from_wall_ms);

CREATE INDEX usage_hour_slot ON ONLY public.usage_hour USING brin (slot_ms) WITH (pages_per_range='32', autosummarize='on');

CREATE INDEX usage_pack_from ON ONLY public.usage_pack USING btree (from_ms);

CREATE INDEX usage_pack_others ON ONLY public.usage_pack USING btree (host_id, namespace, instance, from_ms DESC) WHERE (NOT own);

ALTER INDEX public.frame_pkey ATTACH PARTITION public.frame_fallback_pkey;

ALTER TABLE ONLY public.certificate
    ADD CONSTRAINT certificate_host_id_fkey FOREIGN KEY (host_id) REFERENCES public.host(host_id);

ALTER TABLE ONLY public.certificate
    ADD CONSTRAINT certificate_token_id_fkey FOREIGN KEY (token_id) REFERENCES public.enrolment_token(token_id);

ALTER TABLE ONLY public.enrolment_token
    ADD CONSTRAINT enrolment_token_host_id_fkey FOREIGN KEY (host_id) REFERENCES public.host(host_id);

ALTER TABLE ONLY public.stream
    ADD CONSTRAINT stream_host_id_fkey FOREIGN KEY (host_id) REFERENCES public.host(host_id);
