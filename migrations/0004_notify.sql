-- What receivers outside are to be told of flags: an outbox, so that a transition and the telling of it commit together.
-- One block, so that it also runs once tables are distributed.
DO $$
BEGIN

-- notice (distributed). A row = one transition of a flag for one receiver. Inserted by the evaluator in the transaction of
-- the transition; tried, marked and forgotten by the sender that holds the lease `notify`; read by `notify list`, `status`
-- and `doctor`. Forgotten a week after its flag was cleared and told, or after it was given up; those of host 0 are
-- tests of receivers, likewise.
CREATE TABLE notice (
    host_id      bigint   NOT NULL,
    flag_id      bigint   NOT NULL,
    number       int      NOT NULL,            -- of the transition within its flag
    receiver     text     NOT NULL,            -- name of it in the file of receivers
    transition   text     NOT NULL CHECK (transition IN ('raised', 'worsened', 'eased', 'cleared', 'test')),
    body         text     NOT NULL,            -- the notice, JSON; an older or later collector reads it too
    state        text     NOT NULL CHECK (state IN ('waiting', 'sent', 'given_up', 'tested')),
    queued_ms    bigint   NOT NULL,            -- collector's clock, as all that follow
    due_ms       bigint,                       -- when it is tried next, or told again while it lasts; null = no more
    tries        int      NOT NULL,            -- failed ones since it was queued or last told
    failing_ms   bigint,                       -- since when it fails; null = it does not
    failed_ms    bigint,                       -- when it failed last; null = never
    error        text,                         -- and how
    sent_ms      bigint,                       -- when it was told last; null = never
    PRIMARY KEY (host_id, flag_id, number, receiver)
) WITH (fillfactor = 80);

CREATE INDEX notice_due ON notice (receiver, due_ms) WHERE due_ms IS NOT NULL;

IF EXISTS (SELECT FROM pg_extension WHERE extname = 'citus') THEN
    PERFORM create_distributed_table('notice', 'host_id', colocate_with => 'host_status')
    WHERE EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = 'host_status'::regclass);
END IF;

END
$$;
