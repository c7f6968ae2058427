//! Loads a captured machine into a [`FakeKernel`]; the format is told in `testdata/kernels/README.md`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use highwater_ipc::snapshot::NamespaceId;

use super::accounts;
use super::fake::FakeKernel;
use super::names::MAX_NAMES;
use super::sysvipc::{Extent, parse_msg, parse_sem, parse_shm};
use super::{Account, Kernel};
use crate::sys::errno::Errno;
use crate::sys::sysvipc::{MsgUse, SemUse, ShmUse};

impl FakeKernel {
    /// The machine captured in that directory: its files below `root/`, its answers in `calls`. Fails with what is
    /// missing or not understood.
    pub fn captured(directory: &Path) -> Result<FakeKernel, CaptureError> {
        let mut kernel = FakeKernel { files: BTreeMap::new(), ..FakeKernel::new() };
        let root = directory.join("root");
        add_files(&root, &root, &mut kernel.files)?;
        for path in SHOWN_UNLESS_CAPTURED {
            kernel.files.entry(path.to_owned()).or_insert(Err(Errno::ENOENT));
        }
        // Objects that `*_STAT_ANY` answers: those of /proc, or of `objects/` where /proc is hidden or damaged.
        let whole = Extent { budget: usize::MAX, whole: true };
        let object_file = |kind: &str| {
            fs::read(directory.join("objects").join(kind)).or_else(|_| fs::read(root.join("proc/sysvipc").join(kind)))
        };
        kernel.sem =
            object_file("sem").ok().and_then(|b| parse_sem(&b, whole).ok()).map(|l| l.objects).unwrap_or_default();
        kernel.shm =
            object_file("shm").ok().and_then(|b| parse_shm(&b, whole).ok()).map(|l| l.objects).unwrap_or_default();
        kernel.msg =
            object_file("msg").ok().and_then(|b| parse_msg(&b, whole).ok()).map(|l| l.objects).unwrap_or_default();
        add_names(&mut kernel);
        let calls = directory.join("calls");
        let text = fs::read_to_string(&calls)
            .map_err(|source| CaptureError::File { path: calls.display().to_string(), source })?;
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            Answer::of(line)
                .and_then(|answer| answer.put(&mut kernel))
                .ok_or_else(|| CaptureError::Line(line.to_owned()))?;
        }
        // It was captured in the namespace of process 1.
        kernel.processes = kernel.namespace.iter().map(|home| (1, Ok(home.inode))).collect();
        Ok(kernel)
    }
}

/// Why a captured machine cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// A file or directory cannot be read.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A line of `calls` is not understood.
    #[error("calls: not understood: {0}")]
    Line(String),
}

/// Files that the fake shows by itself and that a captured machine has only if they were captured.
const SHOWN_UNLESS_CAPTURED: [&str; 10] = [
    "/proc/sysvipc/sem",
    "/proc/sysvipc/shm",
    "/proc/sysvipc/msg",
    "/proc/sys/kernel/sem",
    "/proc/sys/kernel/shmmax",
    "/proc/sys/kernel/shmall",
    "/proc/sys/kernel/shmmni",
    "/proc/sys/kernel/msgmax",
    "/proc/sys/kernel/msgmnb",
    "/proc/sys/kernel/msgmni",
];

fn add_files(
    root: &Path,
    directory: &Path,
    files: &mut BTreeMap<String, Result<Vec<u8>, Errno>>,
) -> Result<(), CaptureError> {
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |source| CaptureError::File { path, source }
    };
    for entry in fs::read_dir(directory).map_err(failed(directory))? {
        let path = entry.map_err(failed(directory))?.path();
        if path.is_dir() {
            add_files(root, &path, files)?;
        } else if let Ok(inside) = path.strip_prefix(root) {
            let content = fs::read(&path).map_err(failed(&path))?;
            files.insert(format!("/{}", inside.display()), Ok(content));
        }
    }
    Ok(())
}

fn add_names(kernel: &mut FakeKernel) {
    let mut buffer = Vec::new();
    for (path, account) in [("/etc/passwd", Account::User as fn(u32) -> Account), ("/etc/group", Account::Group)] {
        if kernel.read(path, usize::MAX, &mut buffer).is_ok() {
            let names = accounts::parse(&buffer, MAX_NAMES);
            kernel.names.extend(names.into_iter().map(|(id, name)| (account(id), name)));
        }
    }
}

/// One line of `calls`: a name, then an errno's name, a text, or `field=number` pairs.
struct Answer<'a> {
    call: &'a str,
    rest: &'a str,
}

impl<'a> Answer<'a> {
    fn of(line: &'a str) -> Option<Self> {
        let (call, rest) = line.split_once(' ')?;
        Some(Self { call, rest: rest.trim() })
    }

    fn put(&self, kernel: &mut FakeKernel) -> Option<()> {
        match self.call {
            "calls" => kernel.calls_fail = Some(self.errno()?),
            "sem_info" => {
                kernel.sem_info = Some(self.result(|a| {
                    Some(SemUse {
                        arrays: a.number("arrays")?,
                        semaphores: a.number("semaphores")?,
                        max_index: u32::try_from(a.number("max_index")?).ok()?,
                    })
                })?);
            }
            "shm_info" => {
                kernel.shm_info = Some(self.result(|a| {
                    Some(ShmUse {
                        segments: a.number("segments")?,
                        pages: a.number("pages")?,
                        resident: a.number("resident")?,
                        swapped: a.number("swapped")?,
                        swap_attempts: 0,
                        swap_successes: 0,
                        max_index: u32::try_from(a.number("max_index")?).ok()?,
                    })
                })?);
            }
            "msg_info" => {
                kernel.msg_info = Some(self.result(|a| {
                    Some(MsgUse {
                        queues: a.number("queues")?,
                        messages: a.number("messages")?,
                        bytes: a.number("bytes")?,
                        max_index: u32::try_from(a.number("max_index")?).ok()?,
                    })
                })?);
            }
            "qbytes" => {
                let msqid = i32::try_from(self.number("msqid")?).ok()?;
                kernel.msg.iter_mut().find(|queue| queue.msqid == msqid)?.qbytes = Some(self.number("bytes")?);
            }
            "namespace" => {
                kernel.namespace =
                    self.result(|a| Some(NamespaceId { inode: a.number("inode")?, instance: a.number("instance")? }))?;
            }
            "page_size" => kernel.page_size = self.rest.parse().ok()?,
            "index_bits" => kernel.index_bits = self.rest.parse().ok().filter(|bits| (1..32).contains(bits))?,
            "nodename" => kernel.uname.nodename = self.rest.into(),
            "release" => kernel.uname.release = self.rest.into(),
            "machine" => kernel.uname.machine = self.rest.into(),
            "localtime" => {
                kernel.links.insert("/etc/localtime".into(), self.rest.into());
            }
            "open" => {
                let (path, name) = self.rest.split_once(' ')?;
                kernel.fail(path, Errno::from_name(name.trim())?);
            }
            _ => return None,
        }
        Some(())
    }

    fn errno(&self) -> Option<Errno> {
        Errno::from_name(self.rest)
    }

    fn result<T>(&self, answer: impl Fn(&Self) -> Option<T>) -> Option<Result<T, Errno>> {
        self.errno().map(Err).or_else(|| answer(self).map(Ok))
    }

    fn number(&self, field: &str) -> Option<u64> {
        let pairs = self.rest.split_whitespace().filter_map(|pair| pair.split_once('='));
        pairs.filter(|(name, _)| *name == field).find_map(|(_, value)| value.parse().ok())
    }
}
