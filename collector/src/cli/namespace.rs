//! Which IPC namespaces of a host a command is about, and how they are called. Pure.

use anyhow::bail;

use crate::api::json::LsipcRowJson;

/// What a person can call a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Called {
    /// Its inode.
    pub inode: u64,
    /// Its name, escaped; `None` for the host's own.
    pub name: Option<String>,
}

/// The namespaces of an answer of `lsipc`, the host's own first.
pub fn called(rows: &[LsipcRowJson]) -> Vec<Called> {
    let mut all: Vec<Called> = Vec::new();
    for row in rows {
        if all.last().is_none_or(|n| n.inode != row.namespace) {
            all.push(Called { inode: row.namespace, name: row.namespace_name.clone() });
        }
    }
    all
}

/// Positions of the namespaces that are wanted among `all`, of which the host's own is the first: that one if none is
/// named; those of that inode, or of that name, or whose name begins so. An error unless that is exactly one, or `all`.
pub fn choose(all: &[Called], wanted: Option<&str>) -> anyhow::Result<Vec<usize>> {
    let positions = |fits: &dyn Fn(&Called) -> bool| -> Vec<usize> {
        all.iter().enumerate().filter(|(_, n)| fits(n)).map(|(index, _)| index).collect()
    };
    let Some(text) = wanted else { return Ok(positions(&|_| true).into_iter().take(1).collect()) };
    if text == "all" {
        return Ok(positions(&|_| true));
    }
    let by_inode = positions(&|n| n.inode.to_string() == text);
    let by_name = positions(&|n| n.name.as_deref() == Some(text));
    let by_prefix = positions(&|n| n.name.as_ref().is_some_and(|name| name.starts_with(text)));
    let found = [by_inode, by_name, by_prefix].into_iter().find(|found| !found.is_empty()).unwrap_or_default();
    if found.len() == 1 {
        return Ok(found);
    }
    let which = if found.is_empty() { "no namespace is" } else { "several namespaces are" };
    let named = if found.is_empty() { positions(&|_| true) } else { found };
    let listed: Vec<String> = named.iter().take(MOST_LISTED).filter_map(|i| all.get(*i)).map(Called::title).collect();
    let rest = named.len().saturating_sub(listed.len());
    let rest = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    bail!("{which} called {text:?}; there are: {}{rest}", listed.join(", "))
}

/// How many an error lists.
const MOST_LISTED: usize = 20;

impl Called {
    /// `4026532201 3f2a..`, or the inode alone.
    pub fn title(&self) -> String {
        match &self.name {
            Some(name) => format!("{} {name}", self.inode),
            None => self.inode.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Called> {
        let names = [(1, None), (2, Some("web-1")), (3, Some("web-12")), (4, Some("db")), (5, Some("4"))];
        names.into_iter().map(|(inode, name)| Called { inode, name: name.map(str::to_owned) }).collect()
    }

    #[test]
    fn a_namespace_is_named_by_inode_then_name_then_the_beginning_of_its_name() {
        let of = |wanted| choose(&all(), wanted).unwrap();
        assert_eq!(of(None), [0]);
        assert_eq!(of(Some("all")), [0, 1, 2, 3, 4]);
        assert_eq!(of(Some("2")), [1]);
        assert_eq!(of(Some("4")), [3], "the inode, not the name");
        assert_eq!(of(Some("web-1")), [1], "the whole name, not the beginning of another");
        assert_eq!(of(Some("d")), [3]);
        assert_eq!(choose(&[], None).unwrap(), Vec::<usize>::new());
    }

    #[test]
    fn an_ambiguous_or_unknown_name_lists_what_there_is() {
        let error = |wanted| choose(&all(), Some(wanted)).unwrap_err().to_string();
        assert_eq!(error("web"), "several namespaces are called \"web\"; there are: 2 web-1, 3 web-12");
        assert!(error("x").starts_with("no namespace is called \"x\"; there are: 1, 2 web-1, "), "{}", error("x"));
        let many: Vec<Called> = (0..50).map(|inode| Called { inode, name: Some("pod".into()) }).collect();
        assert!(choose(&many, Some("po")).unwrap_err().to_string().ends_with("19 pod and 30 more"));
    }
}
