-- SQL as a product: views for psql, Grafana and Metabase, whose names and columns are kept (README.md documents them),
-- and what they need: where an owner's row is at home, and the table of flags. One block, so that it also runs once
-- tables are distributed.
--
-- The tables may change; the views may only gain columns. A wall clock can claim anything, and a timestamp cannot hold
-- everything: times are cut to the years 1 to 9999, for one host's clock must not fail everybody's query.
DO $$
BEGIN

-- Across a boot only the host's own namespace is the same place, so a row says which one that is.
ALTER TABLE owner_usage ADD COLUMN own bigint;              -- inode; null = none was read
ALTER TABLE owner_usage ADD COLUMN own_instance bigint;     -- tells two of one inode apart, two's complement
ALTER TABLE owner_usage ADD COLUMN instances bigint[];      -- goes with namespaces, likewise; both are null for the
                                                            -- host's own

-- flag (distributed). A row = one thing that is going wrong on a host, or went. Written by the evaluator, read by
-- `flags` and v_flag. Never deleted while it is open.
CREATE TABLE flag (
    host_id       bigint   NOT NULL,
    flag_id       bigint   NOT NULL,           -- random, positive
    namespace     bigint   NOT NULL,           -- inode
    resource      text     NOT NULL,           -- e.g. SEMMNI
    kind          text     NOT NULL CHECK (kind IN ('trend', 'tight', 'refusing')),
    severity      text     NOT NULL CHECK (severity IN ('warning', 'critical')),
    state         text     NOT NULL CHECK (state IN ('open', 'acknowledged', 'silenced', 'cleared')),
    raised_ms     bigint   NOT NULL,           -- host's clock
    cleared_ms    bigint,                      -- null = it is not cleared
    used          numeric(20,0),               -- as it is judged last
    limit_        numeric(20,0),
    growth_per_hour double precision,          -- of used; null = it says nothing of growth
    eta_ms        bigint,                      -- when the limit is reached, host's clock; null = not in sight
    eta_low_ms    bigint,                      -- the interval of that: soonest
    eta_high_ms   bigint,                      -- and latest
    owner_uid     bigint,                      -- who holds most of it; null = not known
    owner_user    text,                        -- escaped
    owner_comm    text,                        -- escaped
    owner_arrays  bigint,
    owner_orphans bigint,
    why           text     NOT NULL,
    remedy        jsonb    NOT NULL,           -- array of {step, command, risk}
    PRIMARY KEY (host_id, flag_id)
);

IF EXISTS (SELECT FROM pg_extension WHERE extname = 'citus') THEN
    PERFORM create_distributed_table('flag', 'host_id', colocate_with => 'host_status')
    WHERE EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = 'host_status'::regclass);
END IF;

CREATE VIEW v_host_now AS
SELECT lpad(to_hex(r.host_id), 16, '0') AS id, r.name, r.labels,
    to_timestamp(LEAST(GREATEST(r.last_seen_ms, -62135596800000), 253402300799999) / 1000.0) AS last_seen,
    to_timestamp(LEAST(GREATEST(r.sampled_wall_ms, -62135596800000), 253402300799999) / 1000.0) AS sampled_at,
    CASE WHEN abs(r.now_ms - r.last_seen_ms) <= GREATEST(3 * r.interval_ms::bigint, 3000) THEN 'live'
         WHEN r.quarantined_ms >= r.now_ms - 120000 THEN 'quarantined'
         WHEN r.now_ms - r.last_seen_ms > CASE WHEN r.labels ->> 'ephemeral' = '1' THEN 3600000 ELSE 604800000 END
             THEN 'gone'
         ELSE 'silent' END AS lifecycle,
    COALESCE(r.state, 'unknown') AS state, r.kernel, r.arch, r.distro, r.agent_version, r.namespace,
    r.sem_arrays, r.semmni, r.semaphores, r.semmns, r.shm_segments, r.shmmni, r.shm_pages, r.shmall, r.msg_queues,
    r.msgmni,
    CASE GREATEST(r.semmni_ratio, r.semmns_ratio, r.shmmni_ratio, r.shmall_ratio, r.msgmni_ratio)
        WHEN r.semmni_ratio THEN 'SEMMNI' WHEN r.semmns_ratio THEN 'SEMMNS' WHEN r.shmmni_ratio THEN 'SHMMNI'
        WHEN r.shmall_ratio THEN 'SHMALL' WHEN r.msgmni_ratio THEN 'MSGMNI' END AS worst_resource,
    GREATEST(r.semmni_ratio, r.semmns_ratio, r.shmmni_ratio, r.shmall_ratio, r.msgmni_ratio)::double precision
        AS worst_ratio
FROM (SELECT h.host_id, h.name, h.labels, s.last_seen_ms, s.sampled_wall_ms, s.interval_ms, s.quarantined_ms,
          s.namespace, s.sem_arrays, s.semmni, s.semaphores, s.semmns, s.shm_segments, s.shmmni, s.shm_pages, s.shmall,
          s.msg_queues, s.msgmni, f.state, f.kernel, f.arch, f.distro, f.agent_version,
          (extract(epoch FROM statement_timestamp()) * 1000)::bigint AS now_ms,
          CASE WHEN s.sem_arrays IS NOT NULL THEN COALESCE(s.sem_arrays / NULLIF(s.semmni, 0),
              CASE s.semmni WHEN 0 THEN 1 END) END AS semmni_ratio,
          CASE WHEN s.semaphores IS NOT NULL THEN COALESCE(s.semaphores / NULLIF(s.semmns, 0),
              CASE s.semmns WHEN 0 THEN 1 END) END AS semmns_ratio,
          CASE WHEN s.shm_segments IS NOT NULL THEN COALESCE(s.shm_segments / NULLIF(s.shmmni, 0),
              CASE s.shmmni WHEN 0 THEN 1 END) END AS shmmni_ratio,
          CASE WHEN s.shm_pages IS NOT NULL THEN COALESCE(s.shm_pages / NULLIF(s.shmall, 0),
              CASE s.shmall WHEN 0 THEN 1 END) END AS shmall_ratio,
          CASE WHEN s.msg_queues IS NOT NULL THEN COALESCE(s.msg_queues / NULLIF(s.msgmni, 0),
              CASE s.msgmni WHEN 0 THEN 1 END) END AS msgmni_ratio
      FROM host_status s
      JOIN host h ON h.host_id = s.host_id
      LEFT JOIN LATERAL (SELECT * FROM host_facts hf WHERE hf.host_id = s.host_id
          ORDER BY hf.epoch_no DESC, hf.seq DESC LIMIT 1) f ON true) r;
COMMENT ON VIEW v_host_now IS 'One row per host that has reported: its present.';

-- By resource first: who asks for one has only its arrays unpacked.
CREATE VIEW v_usage AS
SELECT lpad(to_hex(u.host_id), 16, '0') AS host_id, h.name AS host, u.namespace, u.own, r.resource,
    to_timestamp(LEAST(GREATEST(u.from_ms + s.slot * 600000::bigint, -62135596800000), 253402300799999) / 1000.0)
        AS slot,
    s.used, COALESCE(s.peak, s.used) AS peak, s.limit_,
    COALESCE(s.used / NULLIF(s.limit_, 0), CASE WHEN s.limit_ = 0 AND s.used IS NOT NULL THEN 1 END)::double precision
        AS ratio,
    u.from_ms + s.slot * 600000::bigint AS slot_ms, u.month, u.from_ms
FROM usage u
JOIN host h ON h.host_id = u.host_id
CROSS JOIN LATERAL (VALUES ('SEMMNI', u.sem_arrays, u.sem_arrays_max, u.semmni),
    ('SEMMNS', u.semaphores, u.semaphores_max, u.semmns), ('SHMMNI', u.shm_segments, u.shm_segments_max, u.shmmni),
    ('SHMALL', u.shm_pages, u.shm_pages_max, u.shmall), ('MSGMNI', u.msg_queues, u.msg_queues_max, u.msgmni))
    AS r (resource, used, peak, limit_)
CROSS JOIN LATERAL unnest(u.slots, r.used, r.peak, r.limit_) AS s (slot, used, peak, limit_);
COMMENT ON VIEW v_usage IS 'One row per host, namespace, resource and ten minutes in which something of it changed.';

CREATE VIEW v_usage_hour AS
SELECT lpad(to_hex(u.host_id), 16, '0') AS host_id, h.name AS host, u.namespace, u.own, r.resource,
    to_timestamp(LEAST(GREATEST(u.slot_ms, -62135596800000), 253402300799999) / 1000.0) AS slot,
    r.used, r.peak, r.limit_,
    COALESCE(r.used / NULLIF(r.limit_, 0), CASE WHEN r.limit_ = 0 AND r.used IS NOT NULL THEN 1 END)::double precision
        AS ratio,
    u.slot_ms, u.year, u.slot_ms AS from_ms
FROM usage_hour u
JOIN host h ON h.host_id = u.host_id
CROSS JOIN unnest(ARRAY['SEMMNI', 'SEMMNS', 'SHMMNI', 'SHMALL', 'MSGMNI'],
    ARRAY[u.sem_arrays, u.semaphores, u.shm_segments, u.shm_pages, u.msg_queues],
    ARRAY[u.sem_arrays_max, u.semaphores_max, u.shm_segments_max, u.shm_pages_max, u.msg_queues_max],
    ARRAY[u.semmni, u.semmns, u.shmmni, u.shmall, u.msgmni]) AS r (resource, used, peak, limit_);
COMMENT ON VIEW v_usage_hour IS 'The same by the hour, kept longer.';

CREATE VIEW v_owner_now AS
SELECT lpad(to_hex(o.host_id), 16, '0') AS host_id, h.name AS host,
    to_timestamp(LEAST(GREATEST(o.slot_ms, -62135596800000), 253402300799999) / 1000.0) AS slot,
    to_timestamp(LEAST(GREATEST(o.wall_ms, -62135596800000), 253402300799999) / 1000.0) AS as_of,
    CASE WHEN e.kind IS NOT NULL THEN COALESCE(e.namespace, o.own) END AS namespace,
    CASE WHEN e.kind IS NOT NULL THEN e.namespace IS NULL END AS own,
    CASE e.kind WHEN 0 THEN 'sem' WHEN 1 THEN 'shm' WHEN 2 THEN 'msg' END AS kind,
    e.uid, e.user_name, e.comm, e.objects::bigint AS objects,
    COALESCE(e.objects_max, e.objects)::bigint AS objects_max,
    CASE WHEN e.objects IS NOT NULL THEN COALESCE(e.semaphores, 0) END AS semaphores,
    CASE WHEN e.objects IS NOT NULL THEN COALESCE(e.bytes, 0) END AS bytes,
    CASE WHEN e.objects IS NOT NULL THEN COALESCE(e.orphans, 0)::bigint END AS orphans,
    CASE WHEN e.objects IS NOT NULL THEN COALESCE(e.certain, 0)::bigint END AS certain
FROM host_status s
JOIN host h ON h.host_id = s.host_id
CROSS JOIN LATERAL (SELECT * FROM owner_usage u WHERE u.host_id = s.host_id AND u.slot_ms <= s.sampled_wall_ms
    ORDER BY u.slot_ms DESC LIMIT 1) o
CROSS JOIN unnest(o.namespaces, o.instances, o.kinds, o.uids, o.users, o.comms, o.objects, o.objects_max, o.semaphores,
    o.bytes, o.orphans, o.certain) AS e (namespace, instance, kind, uid, user_name, comm, objects, objects_max,
    semaphores, bytes, orphans, certain)
WHERE e.objects IS DISTINCT FROM 0;
COMMENT ON VIEW v_owner_now IS 'One row per host, namespace, kind and owner that holds something.';

-- The words of proto/ipc/src/record.rs; tests/views compares them.
CREATE VIEW v_gap AS
SELECT lpad(to_hex(g.host_id), 16, '0') AS host_id, h.name AS host, NULL::bigint AS namespace, NULL::text AS kind,
    CASE WHEN g.from_wall_ms IS NOT NULL THEN
        to_timestamp(LEAST(GREATEST(g.from_wall_ms, -62135596800000), 253402300799999) / 1000.0) END AS began,
    to_timestamp(LEAST(GREATEST(g.to_wall_ms, -62135596800000), 253402300799999) / 1000.0) AS ended,
    CASE g.reason WHEN 1 THEN 'agent_stopped' WHEN 2 THEN 'agent_killed' WHEN 3 THEN 'host_down'
        WHEN 4 THEN 'suspended' WHEN 5 THEN 'stalled' WHEN 6 THEN 'spool_overflow' WHEN 7 THEN 'spool_damaged'
        WHEN 8 THEN 'unreachable' WHEN 9 THEN 'forked' WHEN 10 THEN 'state_lost' WHEN 11 THEN 'history_restored' WHEN 12 THEN 'refused_record'
        WHEN 13 THEN 'unreadable' WHEN 14 THEN 'quarantined' WHEN 15 THEN 'retention' WHEN 16 THEN 'before_first'
        ELSE 'unexplained' END AS reason, g.detail
FROM gap g
JOIN host h ON h.host_id = g.host_id
UNION ALL
SELECT lpad(to_hex(p.host_id), 16, '0'), h.name, p.namespace,
    CASE p.kind WHEN 0 THEN 'sem' WHEN 1 THEN 'shm' WHEN 2 THEN 'msg' END,
    to_timestamp(LEAST(GREATEST(p.from_wall_ms, -62135596800000), 253402300799999) / 1000.0),
    -- One that nothing ended while its epoch went on ended with that.
    CASE WHEN COALESCE(p.to_wall_ms, t.covered_wall_ms) IS NOT NULL THEN
        to_timestamp(LEAST(GREATEST(COALESCE(p.to_wall_ms, t.covered_wall_ms), -62135596800000), 253402300799999)
            / 1000.0) END,
    'unreadable', p.detail
FROM gap_part p
JOIN host h ON h.host_id = p.host_id
LEFT JOIN stream t ON t.host_id = p.host_id AND t.epoch_no = p.epoch_no AND EXISTS (SELECT FROM stream n
    WHERE n.host_id = t.host_id AND n.epoch_no > t.epoch_no AND n.after_epoch_no IS NULL);
COMMENT ON VIEW v_gap IS 'One row per span without data, of a host or of one kind of objects in one of its namespaces.';

CREATE VIEW v_flag AS
SELECT lpad(to_hex(f.flag_id), 16, '0') AS id, lpad(to_hex(f.host_id), 16, '0') AS host_id, h.name AS host, f.namespace,
    f.resource, f.kind, f.severity, f.state,
    to_timestamp(LEAST(GREATEST(f.raised_ms, -62135596800000), 253402300799999) / 1000.0) AS raised_at,
    CASE WHEN f.cleared_ms IS NOT NULL THEN
        to_timestamp(LEAST(GREATEST(f.cleared_ms, -62135596800000), 253402300799999) / 1000.0) END AS cleared_at,
    f.used, f.limit_, f.growth_per_hour,
    CASE WHEN f.eta_ms IS NOT NULL THEN
        to_timestamp(LEAST(GREATEST(f.eta_ms, -62135596800000), 253402300799999) / 1000.0) END AS eta,
    CASE WHEN f.eta_low_ms IS NOT NULL THEN
        to_timestamp(LEAST(GREATEST(f.eta_low_ms, -62135596800000), 253402300799999) / 1000.0) END AS eta_low,
    CASE WHEN f.eta_high_ms IS NOT NULL THEN
        to_timestamp(LEAST(GREATEST(f.eta_high_ms, -62135596800000), 253402300799999) / 1000.0) END AS eta_high,
    f.owner_uid, f.owner_user, f.owner_comm, f.owner_arrays, f.owner_orphans, f.why, f.remedy
FROM flag f
JOIN host h ON h.host_id = f.host_id;
COMMENT ON VIEW v_flag IS 'One row per flag, open or cleared.';

END
$$;
