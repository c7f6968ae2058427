//! Enrolment and operators on a real database.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use highwater_ipc::text::HostText;
use rcgen::{CertificateParams, KeyPair};
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Row as _};
use tokio_util::sync::CancellationToken;

use super::ca::Authority;
use super::certificate::host_of_certificate;
use super::enrolment::{EnrolError, EnrolReply, EnrolRequest, Enrolment};
use super::operators::{Operators, Role};
use super::tokens::{Created, NewToken, TokenState, Tokens, TokensError};
use crate::clock::WallClock;
use crate::embedded::supervise::Postgres;
use crate::host::HostId;
use crate::store::Db;

const NOW: i64 = 1_795_000_000_000;

/// A clock that stands until it is moved.
#[derive(Default)]
struct StandingClock(AtomicI64);

impl WallClock for StandingClock {
    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

struct Bench {
    directory: tempfile::TempDir,
    postgres: Postgres,
    db: Db,
    clock: Arc<StandingClock>,
    enrolment: Enrolment,
    tokens: Tokens,
    operators: Operators,
}

impl Bench {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        let postgres = Postgres::start(directory.path(), |_| {}, &CancellationToken::new()).await.unwrap();
        let db = Db::connect(postgres.options(), 8).await.unwrap();
        db.migrate().await.unwrap();
        let clock = Arc::new(StandingClock(AtomicI64::new(NOW)));
        let authority = Arc::new(Authority::open(&directory.path().join("ca"), NOW).unwrap());
        Self {
            enrolment: Enrolment::new(db.clone(), authority.clone(), clock.clone()),
            tokens: Tokens::new(db.clone(), authority.pin(), clock.clone()),
            operators: Operators::new(db.clone(), clock.clone()),
            directory,
            postgres,
            db,
            clock,
        }
    }

    async fn token(&self, new: NewToken) -> Created {
        self.tokens.create("ann", &new).await.unwrap()
    }

    async fn enrol(&self, token: &Created, key: &KeyPair) -> Result<EnrolReply, EnrolError> {
        self.enrolment.enrol(request(token, key)).await
    }

    /// The rows of a question, fields as text.
    async fn ask(&self, question: &'static str) -> Vec<String> {
        let mut connection = PgConnection::connect_with(&self.postgres.options()).await.unwrap();
        let rows = sqlx::query(question).fetch_all(&mut connection).await.unwrap();
        rows.iter().map(|row| row.get::<String, _>(0)).collect()
    }

    async fn state(&self, token: &Created) -> TokenState {
        let listed = self.tokens.list().await.unwrap();
        listed.iter().find(|t| t.id == token.token.id).unwrap().state
    }

    async fn stop(self) {
        self.db.close().await;
        self.postgres.stop().await.unwrap();
        self.directory.close().unwrap();
    }
}

fn request(token: &Created, key: &KeyPair) -> EnrolRequest {
    EnrolRequest {
        token_id: token.token.id.clone(),
        secret: token.token.secret.clone(),
        csr: CertificateParams::default().serialize_request(key).unwrap().der().to_vec(),
        hostname: HostText::cut(b"web\x1b17"),
    }
}

fn key() -> KeyPair {
    KeyPair::generate().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_buys_one_key_and_answers_a_lost_reply_again() {
    let bench = Bench::start().await;
    let labels = [("env".to_owned(), "prod".to_owned())].into();
    let token = bench.token(NewToken { labels, ..NewToken::default() }).await;
    let (first, second) = (key(), key());
    let mut wrong = request(&token, &first);
    wrong.secret = "0".repeat(64);
    assert!(matches!(bench.enrolment.enrol(wrong).await, Err(EnrolError::UnknownToken)));
    assert_eq!(bench.state(&token).await, TokenState::Valid);

    let reply = bench.enrol(&token, &first).await.unwrap();
    assert_eq!(host_of_certificate(&reply.chain[0]), Ok(reply.host));
    assert_eq!((reply.next_epoch_no, reply.chain.len()), (1, 2));
    assert_eq!(bench.ask("SELECT name || labels::text FROM host").await, ["web\\x1b17{\"env\": \"prod\"}"]);
    assert_eq!(bench.state(&token).await, TokenState::Used);

    // The reply was lost; it is asked for again, even after the token's time.
    bench.clock.0.fetch_add(2 * 3_600_000, Ordering::SeqCst);
    assert_eq!(bench.enrol(&token, &first).await.unwrap(), reply);
    assert!(matches!(bench.enrol(&token, &second).await, Err(EnrolError::Used)));
    assert_eq!(bench.ask("SELECT count(*)::text FROM host").await, ["1"]);
    let audit = bench.ask("SELECT who || ' ' || what FROM audit ORDER BY audit_id").await;
    assert_eq!(audit, ["ann token.create", "enrolment host.enrol"]);
    let stored = bench.ask("SELECT encode(secret_sha256, 'hex') FROM enrolment_token").await;
    assert!(!stored[0].contains(&token.token.secret));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_at_once_one_key_wins_and_the_same_key_gets_one_certificate() {
    let bench = Bench::start().await;
    let token = bench.token(NewToken::default()).await;
    let keys: Vec<KeyPair> = (0..6).map(|_| key()).collect();
    let mut tasks = Vec::new();
    for key in keys.iter().chain(keys.iter()) {
        let (enrolment, request) = (bench.enrolment.clone(), request(&token, key));
        tasks.push(tokio::spawn(async move { enrolment.enrol(request).await }));
    }
    let mut bought = Vec::new();
    for task in tasks {
        match task.await.unwrap() {
            Ok(reply) => bought.push(reply),
            Err(e) => assert!(matches!(e, EnrolError::Used), "{e}"),
        }
    }
    assert_eq!(bought.len(), 2, "the winner and its twin");
    assert_eq!(bought[0], bought[1]);
    // Twice the same key with uses left: still one certificate, and one use.
    let token = bench.token(NewToken { uses: 3, ..NewToken::default() }).await;
    let key = key();
    let (one, two) = tokio::join!(bench.enrol(&token, &key), bench.enrol(&token, &key));
    assert_eq!(one.unwrap(), two.unwrap());
    assert_eq!(bench.ask("SELECT count(*)::text FROM certificate").await, ["2"]);
    assert_eq!(bench.ask("SELECT uses_left::text FROM enrolment_token ORDER BY uses_left").await, ["0", "2"]);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_ends_by_time_and_by_revocation_and_a_host_comes_back_as_itself() {
    let bench = Bench::start().await;
    let expired = bench.token(NewToken { ttl_ms: 1000, ..NewToken::default() }).await;
    let revoked = bench.token(NewToken::default()).await;
    bench.clock.0.fetch_add(1000, Ordering::SeqCst);
    bench.tokens.revoke("ann", &revoked.token.id).await.unwrap();
    assert!(matches!(bench.enrol(&expired, &key()).await, Err(EnrolError::Expired { .. })));
    assert!(matches!(bench.enrol(&revoked, &key()).await, Err(EnrolError::Revoked)));
    assert!(matches!(bench.tokens.revoke("ann", "nobody").await, Err(TokensError::NoToken(_))));

    let first = bench.enrol(&bench.token(NewToken::default()).await, &key()).await.unwrap();
    bench
        .ask(
            "INSERT INTO stream (host_id, epoch_no, epoch_id, boot_id, next_seq, chain, interval_ms, stretch, \
             compacted_to, session, opened_ms, pending_detail) SELECT host_id, 7, 1, '', 0, '', 1000, -1, 0, 1, 0, '' FROM host \
             RETURNING 'x'",
        )
        .await;
    let again = bench.token(NewToken { host: Some(first.host), ..NewToken::default() }).await;
    let second = bench.enrol(&again, &key()).await.unwrap();
    assert_eq!((second.host, second.next_epoch_no), (first.host, 8));
    let nobody = NewToken { host: Some(HostId(1)), ..NewToken::default() };
    assert!(matches!(bench.tokens.create("ann", &nobody).await, Err(TokensError::NoHost(_))));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_is_known_by_token_until_it_is_revoked() {
    let bench = Bench::start().await;
    let token = bench.operators.add("up", "ann", Role::Operator).await.unwrap();
    let known = bench.operators.verify(&token.reveal()).await.unwrap().unwrap();
    assert_eq!((known.name.as_str(), known.role), ("ann", Role::Operator));
    let other = super::operators::OperatorToken { secret: "f".repeat(64), ..token.clone() };
    assert_eq!(bench.operators.verify(&other.reveal()).await.unwrap(), None);
    assert_eq!(bench.operators.verify("hwo1.x.y").await.unwrap(), None);
    bench.ask("UPDATE operator_token SET revoked_ms = 1 RETURNING 'x'").await;
    bench.clock.0.fetch_add(2000, Ordering::SeqCst);
    assert_eq!(bench.operators.verify(&token.reveal()).await.unwrap(), None, "remembered for 2 s at most");
    bench.stop().await;
}
