//! One object whole, for `ipcs -i ID`: a field a line, by the names of `/proc/sysvipc`.
//!
//! The layout is ours, not util-linux's: a recorded array holds no semaphore values, and names and history are more
//! than `ipcs` has.

use alloc::vec::Vec;
use core::fmt;

use super::page::{Page, ctime};
use crate::object::{Kind, MsgQueue, Object, SemArray, ShmSegment};
use crate::snapshot::{Namespace, State};
use crate::text::HostText;
use crate::time::Zone;

/// The recorded fields of the object of that kind and id; `None` if the namespace has none such. What is known of the
/// object's life beyond this sample is the caller's to append.
pub fn ipcs_object(state: &State, namespace: &Namespace, kind: Kind, id: i32, zone: &dyn Zone) -> Option<Vec<u8>> {
    let mut fields = Fields { page: Page::default(), state, zone };
    match kind {
        Kind::Sem => fields.sem(find(namespace.sem.as_deref(), id)?),
        Kind::Shm => fields.shm(find(namespace.shm.as_deref(), id)?),
        Kind::Msg => fields.msg(find(namespace.msg.as_deref(), id)?),
    }
    Some(fields.page.into_bytes())
}

fn find<T: Object>(objects: Option<&[T]>, id: i32) -> Option<&T> {
    objects?.iter().find(|object| object.id() == id)
}

struct Fields<'a> {
    page: Page,
    state: &'a State,
    zone: &'a dyn Zone,
}

impl Fields<'_> {
    fn sem(&mut self, array: &SemArray) {
        self.common(array, "semid");
        self.field("nsems", array.nsems);
        self.time("otime", array.otime);
        self.time("ctime", array.ctime);
    }

    fn shm(&mut self, segment: &ShmSegment) {
        self.common(segment, "shmid");
        self.field("dest", segment.perms.dest());
        self.field("locked", segment.perms.locked());
        self.field("size", segment.size);
        self.field("rss", segment.rss);
        self.field("swap", segment.swap);
        self.field("nattch", segment.nattch);
        self.field("cpid", segment.cpid);
        self.field("lpid", segment.lpid);
        self.time("atime", segment.atime);
        self.time("dtime", segment.dtime);
        self.time("ctime", segment.ctime);
    }

    fn msg(&mut self, queue: &MsgQueue) {
        self.common(queue, "msqid");
        self.field("cbytes", queue.cbytes);
        match queue.qbytes {
            Some(qbytes) => self.field("qbytes", qbytes),
            None => self.field("qbytes", "unknown"),
        }
        self.field("qnum", queue.qnum);
        self.field("lspid", queue.lspid);
        self.field("lrpid", queue.lrpid);
        self.time("stime", queue.stime);
        self.time("rtime", queue.rtime);
        self.time("ctime", queue.ctime);
    }

    fn common<T: Object>(&mut self, object: &T, id: &str) {
        let (state, owner) = (self.state, object.owner());
        self.field(id, object.id());
        self.field("key", object.key());
        self.field("perms", object.perms());
        self.id("uid", owner.uid, state.users.get(&owner.uid));
        self.id("gid", owner.gid, state.groups.get(&owner.gid));
        self.id("cuid", owner.cuid, state.users.get(&owner.cuid));
        self.id("cgid", owner.cgid, state.groups.get(&owner.cgid));
    }

    fn field(&mut self, name: &str, value: impl fmt::Display) {
        self.page.line(format_args!("{name}={value}"));
    }

    fn id(&mut self, field: &str, id: u32, name: Option<&HostText>) {
        match name {
            Some(name) => self.field(field, format_args!("{id} ({name})")),
            None => self.field(field, id),
        }
    }

    fn time(&mut self, name: &str, seconds: i64) {
        let text = ctime(seconds, self.zone);
        self.field(name, text);
    }
}
