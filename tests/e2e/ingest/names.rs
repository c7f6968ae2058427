//! Names that no passwd file can hold, but a hostile peer can send: through delta, codec, PostgreSQL and back to JSON.

use highwater_ipc::object::{Key, Owner, Perms, SemArray};
use highwater_ipc::text::HostText;
use highwater_proto::json::{Envelope, SnapshotJson};

use super::*;

#[test]
fn a_comm_and_a_user_name_with_newline_escape_and_broken_utf_8_come_back_whole() {
    let collector = Collector::shared();
    let mut host = collector.host(900);
    let (user, comm) = (HostText::cut(b"ev\nil\x1b[31m\xff\0"), HostText::cut(b"ht\ntpd\x1b\xc3"));
    collector.store(&mut host, 1, |host| {
        let first = host.keyframe(None);
        let owner = Owner { uid: 1001, gid: u32::MAX, cuid: 0, cgid: 0 };
        let row = SemArray {
            key: Key(0),
            semid: 98304,
            perms: Perms(0o600),
            nsems: 1,
            owner,
            otime: 0,
            ctime: 1_241_364_839,
        };
        let second = host.change(|state| {
            state.users.insert(1001, user.clone());
            state.namespaces[0].name = Some(comm.clone());
            state.namespaces[0].sem = Some(vec![row]);
        });
        vec![first, second]
    });
    let snapshot = collector.held(900, host.clock.wall_ms).snapshot;
    assert_eq!(snapshot.state.users[&1001], user);
    assert_eq!(snapshot.state.namespaces[0].name.as_ref(), Some(&comm));
    let json = serde_json::to_value(SnapshotJson::new(&snapshot, &Envelope::default())).unwrap();
    let namespace = &json["namespaces"][0];
    assert_eq!(namespace["name"], r"ht\x0atpd\x1b\xc3");
    assert_eq!(namespace["sem"][0]["user"], r"ev\x0ail\x1b[31m\xff\x00");
    let back: SnapshotJson = serde_json::from_value(json).unwrap();
    assert_eq!(back.to_snapshot().unwrap().0, *snapshot);
}
