//! `/proc/PID/cgroup`: which container a process says that it is in (`cgroups(7)`).
//!
//! Runtimes name a container's cgroup after its id. Whoever may make cgroups can imitate that, so a name is believed to be
//! a claim and nothing more, and only one that matches a runtime's pattern exactly is taken at all. One line is
//! `ID:CONTROLLERS:PATH`; a kernel with version 2 alone has the one line `0::PATH`.

use highwater_ipc::snapshot::NamedBy;
use highwater_ipc::text::HostText;

/// The most bytes of the file that are looked at: a path has 4,096 at most, and there are about a dozen hierarchies.
pub const MAX_BYTES: usize = 64 << 10;

/// The container that the file names: of nested ones the innermost. `None` if there is none, if two hierarchies
/// disagree, or if a line is not as the kernel writes it.
pub fn container(file: &[u8]) -> Option<(NamedBy, HostText)> {
    let lines = file.strip_suffix(b"\n")?.split(|byte| *byte == b'\n');
    let (mut found, mut hierarchies) = (None, Vec::new());
    for line in lines {
        let (hierarchy, path) = split(line)?;
        // A second line of one hierarchy is the rest of a name with a newline in it.
        if hierarchies.contains(&hierarchy) || hierarchies.len() >= MAX_HIERARCHIES {
            return None;
        }
        hierarchies.push(hierarchy);
        match (&found, in_path(path)?) {
            (None, claim) => found = claim,
            (Some(before), Some(claim)) if *before != claim => return None,
            _ => {}
        }
    }
    found
}

/// More than any kernel has controllers.
const MAX_HIERARCHIES: usize = 64;
/// The longest name that LXC or nspawn take for a container.
const MAX_NAME: usize = 64;

/// Number and path of one line.
fn split(line: &[u8]) -> Option<(u32, &[u8])> {
    let mut fields = line.splitn(3, |byte| *byte == b':');
    let (number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
    let digits = !number.is_empty() && number.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(number).ok().filter(|_| digits)?.parse().ok()?;
    let is_list = |byte: &u8| byte.is_ascii_alphanumeric() || b"_,=-.".contains(byte);
    (controllers.iter().all(is_list) && path.first() == Some(&b'/')).then_some((number, path))
}

/// What the innermost matching part of a path claims; the outer `None` = the path is none that a kernel shows for a
/// cgroup below the reader's own root.
fn in_path(path: &[u8]) -> Option<Option<(NamedBy, HostText)>> {
    let (mut claim, mut parent, mut grandparent): (_, &[u8], &[u8]) = (None, b"", b"");
    for part in path.split(|byte| *byte == b'/').skip(1) {
        if part == b"." || part == b".." || part.is_empty() && path != b"/" {
            return None;
        }
        claim = part_claims(part, parent, grandparent).or(claim);
        (parent, grandparent) = (part, parent);
    }
    Some(claim)
}

fn part_claims(part: &[u8], parent: &[u8], grandparent: &[u8]) -> Option<(NamedBy, HostText)> {
    let scope = part.strip_suffix(b".scope");
    let in_scope = |prefix: &[u8]| scope.and_then(|scope| scope.strip_prefix(prefix)).filter(|id| is_id(id));
    if let Some(id) = in_scope(b"docker-") {
        return Some((NamedBy::Docker, HostText::cut(id)));
    }
    if let Some(id) = in_scope(b"cri-containerd-").or_else(|| in_scope(b"nerdctl-")) {
        return Some((NamedBy::Containerd, HostText::cut(id)));
    }
    if let Some(id) = in_scope(b"crio-") {
        return Some((NamedBy::Crio, HostText::cut(id)));
    }
    if let Some(id) = in_scope(b"libpod-").or_else(|| part.strip_prefix(b"libpod-").filter(|id| is_id(id))) {
        return Some((NamedBy::Podman, HostText::cut(id)));
    }
    if let Some(id) = part.strip_prefix(b"crio-").filter(|id| is_id(id)) {
        return Some((NamedBy::Crio, HostText::cut(id)));
    }
    if is_id(part) && parent == b"docker" {
        return Some((NamedBy::Docker, HostText::cut(part)));
    }
    if is_id(part) && is_pod(parent, grandparent) {
        return Some((NamedBy::Containerd, HostText::cut(part)));
    }
    // containerd without a systemd cgroup driver below a systemd slice: `SLICE:cri-containerd:ID`.
    if let Some((slice, id)) = cut_around(part, b":cri-containerd:")
        && slice.ends_with(b".slice")
        && is_id(id)
    {
        return Some((NamedBy::Containerd, HostText::cut(id)));
    }
    let lxc =
        if parent == b"lxc" || parent == b"lxc.payload" { Some(part) } else { part.strip_prefix(b"lxc.payload.") };
    if let Some(name) = lxc.filter(|name| is_name(name)) {
        return Some((NamedBy::Lxc, HostText::cut(name)));
    }
    nspawn(part, scope, parent).map(|name| (NamedBy::Nspawn, HostText::cut(&name)))
}

/// A container id as docker, containerd, CRI-O and podman make them: 64 lower case hexadecimal digits.
fn is_id(id: &[u8]) -> bool {
    id.len() == 64 && id.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// `kubepods/pod<UID>` or `kubepods/<quality of service>/pod<UID>`.
fn is_pod(part: &[u8], parent: &[u8]) -> bool {
    let uid = part.strip_prefix(b"pod").unwrap_or_default();
    let digits = (32..=36).contains(&uid.len()) && uid.iter().all(|byte| byte.is_ascii_hexdigit() || *byte == b'-');
    digits && matches!(parent, b"kubepods" | b"besteffort" | b"burstable" | b"guaranteed")
}

/// A name that LXC and nspawn take: like a host name.
fn is_name(name: &[u8]) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.-".contains(byte);
    name.first().is_some_and(u8::is_ascii_alphanumeric) && name.len() <= MAX_NAME && name.iter().all(allowed)
}

/// `machine-NAME.scope` in `machine.slice`, or `systemd-nspawn@NAME.service`; NAME is escaped as systemd's units are
/// (`systemd-escape(1)`).
fn nspawn(part: &[u8], scope: Option<&[u8]>, parent: &[u8]) -> Option<Vec<u8>> {
    let scope = scope.filter(|_| parent == b"machine.slice").and_then(|scope| scope.strip_prefix(b"machine-"));
    let service = || part.strip_suffix(b".service")?.strip_prefix(b"systemd-nspawn@");
    let name = unescaped(scope.or_else(service)?)?;
    // libvirt's machines are in the same slice: `qemu-1-web`, `lxc-7-web`.
    let libvirt =
        |driver: &[u8]| name.strip_prefix(driver).is_some_and(|rest| rest.first().is_some_and(u8::is_ascii_digit));
    (is_name(&name) && !libvirt(b"qemu-") && !libvirt(b"lxc-")).then_some(name)
}

/// Takes `\x2d` back to a hyphen; nothing else in a machine's name is escaped, and a hyphen that is not would be a slash.
fn unescaped(name: &[u8]) -> Option<Vec<u8>> {
    let (mut plain, mut rest) = (Vec::with_capacity(name.len()), name);
    while let Some((first, tail)) = rest.split_first() {
        match first {
            b'-' => return None,
            b'\\' => {
                rest = tail.strip_prefix(b"x2d")?;
                plain.push(b'-');
            }
            other => {
                rest = tail;
                plain.push(*other);
            }
        }
    }
    Some(plain)
}

fn cut_around<'a>(text: &'a [u8], middle: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = text.windows(middle.len()).position(|window| window == middle)?;
    Some((text.get(..at)?, text.get(at + middle.len()..)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "4c01db0b339c8d2d5f2a1d6c1a5bb7ae3a1f0b9d8c7e6f5a4b3c2d1e0f9a8b7c";
    const OUTER: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const POD: &str = "pod1f0b9d8c-7e6f-5a4b-3c2d-1e0f9a8b7c6d";

    fn of(file: &str) -> Option<(NamedBy, String)> {
        container(file.as_bytes()).map(|(by, name)| (by, name.escaped()))
    }

    #[test]
    fn each_runtime_has_its_pattern_in_both_versions() {
        let table = [
            (format!("0::/system.slice/docker-{ID}.scope\n"), NamedBy::Docker, ID),
            (format!("0::/docker/{ID}\n"), NamedBy::Docker, ID),
            (format!("0::/docker/{ID}/init.scope\n"), NamedBy::Docker, ID),
            (format!("9:name=systemd:/docker/{ID}\n8:cpu,cpuacct:/docker/{ID}\n0::/\n"), NamedBy::Docker, ID),
            (format!("0::/docker/{OUTER}/docker/{ID}\n"), NamedBy::Docker, ID),
            (format!("0::/kubepods.slice/kubepods-{POD}.slice/cri-containerd-{ID}.scope\n"), NamedBy::Containerd, ID),
            (format!("5:pids:/kubepods/burstable/{POD}/{ID}\n0::/\n"), NamedBy::Containerd, ID),
            (format!("0::/kubepods/{POD}/{ID}\n"), NamedBy::Containerd, ID),
            (format!("0::/system.slice/kubepods-{POD}.slice:cri-containerd:{ID}\n"), NamedBy::Containerd, ID),
            (format!("0::/system.slice/nerdctl-{ID}.scope\n"), NamedBy::Containerd, ID),
            (format!("0::/kubepods.slice/kubepods-{POD}.slice/crio-{ID}.scope/container\n"), NamedBy::Crio, ID),
            (format!("4:memory:/kubepods/besteffort/{POD}/crio-{ID}\n"), NamedBy::Crio, ID),
            (format!("0::/machine.slice/libpod-{ID}.scope/container\n"), NamedBy::Podman, ID),
            (format!("0::/libpod_parent/libpod-{ID}\n"), NamedBy::Podman, ID),
            ("0::/lxc.payload.web-1/system.slice\n".into(), NamedBy::Lxc, "web-1"),
            ("3:cpuset:/lxc/web.1\n".into(), NamedBy::Lxc, "web.1"),
            (r"0::/machine.slice/machine-web\x2d1.scope/payload".to_owned() + "\n", NamedBy::Nspawn, "web-1"),
            ("0::/machine.slice/systemd-nspawn@web.service/payload\n".into(), NamedBy::Nspawn, "web"),
        ];
        for (file, by, name) in table {
            assert_eq!(of(&file), Some((by, name.to_owned())), "{file}");
        }
    }

    #[test]
    fn whatever_is_nearly_a_pattern_is_none() {
        let (short, upper) = (&ID[1..], ID.to_ascii_uppercase());
        let table = [
            format!("0::/docker/{short}\n"),
            format!("0::/docker/{ID}0\n"),
            format!("0::/docker/{upper}\n"),
            format!("0::/docker-{ID}.scope.d\n"),
            format!("0::/xdocker-{ID}.scope\n"),
            format!("0::/other/{ID}\n"),
            format!("0::/docker/../{ID}\n"),
            format!("0::/../docker/{ID}\n"),
            format!("0::/./docker/{ID}\n"),
            format!("0::/docker//{ID}\n"),
            format!("0::/docker/{ID}\n0::/docker/{ID}\n"),
            format!("0::/harmless\nx/docker/{ID}\n"),
            format!("0::docker/{ID}\n"),
            format!("0::/docker/{ID}"),
            format!("0::/docker/{ID}\n\n"),
            format!("-1::/docker/{ID}\n"),
            format!("+1::/docker/{ID}\n"),
            format!("9:name=systemd:/docker/{ID}\n8:cpu:/docker/{OUTER}\n"),
            format!("0::/machine.slice/libpod-conmon-{ID}.scope\n"),
            format!("0::/crio-conmon-{ID}.scope\n"),
            format!("0::/kubepods/podx/{ID}\n"),
            format!("0::/x:cri-containerd:{ID}\n"),
            format!("0::/lxc/{}\n", "a".repeat(65)),
            "0::/lxc.monitor.web\n".into(),
            "0::/lxc/\x1b[31m\n".into(),
            "0::/lxc/-web\n".into(),
            "0::/machine.slice/machine-qemu\\x2d1\\x2dweb.scope\n".into(),
            "0::/machine.slice/machine-a-b.scope\n".into(),
            "0::/machine.slice/machine-a\\x2f.scope\n".into(),
            "0::/elsewhere/machine-web.scope\n".into(),
            "0::/\n".into(),
            String::new(),
            "\n".into(),
        ];
        for file in table {
            assert_eq!(of(&file), None, "{file}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = container(&bytes);
        }

        #[test]
        fn a_name_is_printable_and_short_whatever_the_path(parts in proptest::collection::vec("[a-z./:\\-\n\x1b\\\\]{0,12}|lxc|docker|lxc.payload|machine.slice|[0-9a-f]{64}", 1..8)) {
            if let Some((by, name)) = container(format!("0::/{}\n", parts.join("/")).as_bytes()) {
                prop_assert!(by != NamedBy::Nothing && by != NamedBy::Comm);
                prop_assert!(name.as_bytes().len() <= MAX_NAME && name.as_bytes().iter().all(u8::is_ascii_graphic));
            }
        }
    }
}
