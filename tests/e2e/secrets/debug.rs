//! `Debug` of whatever holds a secret: it may reach a log or an error by any `{:?}`.

use std::fmt::Debug;
use std::fs;

use highwater::cli::client::Client;
use highwater::embedded::{server, supervise};
use highwater::identity::ca::Authority;
use highwater::identity::enrolment::EnrolRequest;
use highwater::identity::operators::OperatorToken;
use highwater::identity::tokens::Created;
use highwater::ingest::Material;
use highwater_agent::spool::disk::{Disk as _, PrivateDir};
use highwater_agent::transport::enrol::EnrolOptions;
use highwater_agent::transport::enrolment::Enrolment;
use highwater_agent::transport::tls::{Identity, TlsClient};
use highwater_proto::token::Token;
use highwater_tests::wait::now_ms;

use super::leaks::private_number;
use super::planted::{Place, Secret};

const SECRET: &str = "pl4ntedSecret0123456789abcdef";
const PIN: [u8; 32] = [0xab; 32];

/// No `{:?}` at all: what these hold shows itself, as sqlx's options show their password.
macro_rules! must_not_be_debug {
    ($($type:ty),+ $(,)?) => {
        $({
            trait Only<A> {
                fn one() {}
            }
            impl<T: ?Sized> Only<()> for T {}
            impl<T: ?Sized + Debug> Only<u8> for T {}
            // Does not compile if both are there to choose from.
            let _ = <$type as Only<_>>::one;
        })+
    };
}

/// Fails if a secret is in `{:?}` or `{:#?}` of this, which must hold the marker.
#[track_caller]
fn must_hide(name: &str, value: &dyn Debug, marker: &str, secret: &[u8]) {
    let secrets = [Secret::new("the secret", secret)];
    for shown in [format!("{value:?}"), format!("{value:#?}")] {
        // A list over many lines, too.
        let joined = shown.split_whitespace().collect::<Vec<_>>().join(" ");
        for text in [&shown, &joined] {
            let place = Place::new(name, text.as_bytes(), marker);
            assert_eq!(place.holds(&secrets), Vec::<String>::new(), "{text}");
        }
    }
}

fn token() -> Token {
    Token { id: "id1".to_owned(), secret: SECRET.to_owned(), pin: PIN }
}

#[test]
fn debug_of_the_collectors_types_shows_no_secret() {
    must_not_be_debug!(server::Server, supervise::Postgres, Client, EnrolRequest);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let ca = Authority::open(&directory.path().join("ca"), now_ms()).expect("a CA");
    let key = fs::read(directory.path().join("ca/ca.key")).expect("its key");
    must_hide("the CA", &ca, "Authority", &private_number(&key));
    let shown = ca.server_certificate(now_ms()).expect("a certificate");
    let number = private_number(&shown.key);
    must_hide("the collector's certificate", &shown, "ServerCertificate", &number);
    let material = Material { ca: ca.certificate().to_vec(), chain: shown.chain, key: shown.key };
    must_hide("what the port shows", &material, "Material", &number);
    let operator = OperatorToken { id: "id1".to_owned(), secret: SECRET.to_owned() };
    must_hide("an operator's token", &operator, "id1", SECRET.as_bytes());
    let created = Created { token: token(), expires_ms: 1 };
    must_hide("a token just made", &created, "Created", SECRET.as_bytes());
}

#[test]
fn debug_of_the_agents_types_shows_no_secret() {
    must_not_be_debug!(TlsClient, Identity<'_>);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let options = EnrolOptions {
        collector: "collector:8443".to_owned(),
        token: token(),
        state_dir: directory.path().to_owned(),
        hostname: "web".into(),
        machine_id: "m".into(),
    };
    must_hide("its token", &options.token, "id1", SECRET.as_bytes());
    must_hide("how to enrol", &options, "EnrolOptions", SECRET.as_bytes());
    let enrolment = Enrolment {
        host_id: "h1".to_owned(),
        collector: "collector:8443".to_owned(),
        next_epoch_no: 1,
        not_after_ms: 0,
        certificate_pem: "a certificate".to_owned(),
        ca_pem: "a certificate".to_owned(),
    };
    let state = directory.path().join("state");
    let mut disk = PrivateDir::create(&state).expect("a state directory");
    enrolment.store(&mut disk).expect("stored");
    disk.replace("key.pem", SECRET.as_bytes()).expect("written");
    must_hide("an enrolment", &enrolment, "Enrolment", SECRET.as_bytes());
    must_hide("a state directory", &disk, "PrivateDir", SECRET.as_bytes());
}

/// Else the tests above find nothing because they look wrongly.
#[test]
#[should_panic(expected = "the secret (a list)")]
fn a_key_that_debug_shows_over_many_lines_is_found() {
    struct OverLines;
    impl Debug for OverLines {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            if f.alternate() { SECRET.as_bytes().fmt(f) } else { f.write_str("***") }
        }
    }
    must_hide("bytes", &OverLines, "", SECRET.as_bytes());
}
