//! Products whose System V IPC objects nobody but they themselves may remove: removing them under a product that runs, or
//! that only looks stopped, destroys data (IBM's note swg21414283 for MQ: a second queue manager starts on the same
//! files). Told by the user and the program that hold them; a wrong guess costs only a command that is not printed.

/// One product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Product {
    /// What people call it.
    pub name: &'static str,
    /// Users it runs as: whole names, or how they begin where they end with `*`.
    users: &'static [&'static str],
    /// Its programs, likewise.
    comms: &'static [&'static str],
    /// How its objects are freed.
    pub procedure: &'static str,
    /// What goes wrong otherwise.
    pub risk: &'static str,
}

/// All that are known.
pub const ALL: [Product; 6] = [
    Product {
        name: "IBM MQ",
        users: &["mqm"],
        comms: &["amq*", "runmq*", "strmqm", "endmqm"],
        procedure: "end the queue manager (endmqm), then as mqm: amqiclen -x -m QMGR",
        risk: "do not ipcrm: with its objects gone a second instance starts on the same files and destroys messages",
    },
    Product {
        name: "PostgreSQL",
        users: &["postgres", "pgsql", "edb", "enterprisedb"],
        comms: &["postgres", "postmaster", "pgbouncer"],
        procedure: "stop the cluster with pg_ctl stop; what a dead one left is freed when it starts again. Fewer arrays: \
                    lower max_connections, or autovacuum_max_workers (one array for each 16 of them)",
        risk: "do not ipcrm: its segment is what keeps a second postmaster from the same data",
    },
    Product {
        name: "Oracle Database",
        users: &["oracle", "ora*"],
        comms: &["ora_*", "oracle*", "asm_*"],
        procedure: "find what belongs to no instance with sysresv as its owner, and let shutdown free the rest",
        risk: "do not ipcrm the objects of an instance that runs: it ends at once",
    },
    Product {
        name: "Db2",
        users: &["db2*"],
        comms: &["db2*"],
        procedure: "stop the instance (db2stop force), then as its owner: ipclean",
        risk: "do not ipcrm while db2sysc lives: the instance ends at once",
    },
    Product {
        name: "SAP",
        users: &["*adm", "sapadm"],
        comms: &["disp+work", "dw.sap*", "sapstart*", "jstart", "icman"],
        procedure: "stop the instance (sapcontrol -nr NN -function Stop), then as its owner: cleanipc NN remove",
        risk: "do not ipcrm: work processes that are left lose what they share",
    },
    Product {
        name: "Informix",
        users: &["informix"],
        comms: &["oninit*"],
        procedure: "take the server offline (onmode -ky), then onclean -k",
        risk: "do not ipcrm: the server ends at once",
    },
];

impl Product {
    /// The product that a holder seems to be, by its user's name and its program.
    pub fn of(user: Option<&str>, comm: Option<&str>) -> Option<&'static Product> {
        let is = |patterns: &[&str], name: Option<&str>| {
            name.is_some_and(|name| patterns.iter().any(|pattern| fits(pattern, name)))
        };
        ALL.iter().find(|product| is(product.comms, comm) || is(product.users, user))
    }
}

fn fits(pattern: &str, name: &str) -> bool {
    match (pattern.strip_suffix('*'), pattern.strip_prefix('*')) {
        (Some(begin), _) => name.starts_with(begin),
        (_, Some(end)) => name.len() > end.len() && name.ends_with(end),
        _ => name == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_whose_objects_must_stay_are_known_by_user_or_program() {
        let name = |user, comm| Product::of(user, comm).map(|product| product.name);
        assert_eq!(name(Some("mqm"), None), Some("IBM MQ"));
        assert_eq!(name(None, Some("amqzxma0")), Some("IBM MQ"));
        assert_eq!(name(Some("prdadm"), Some("disp+work")), Some("SAP"));
        assert_eq!(name(Some("db2inst1"), Some("db2sysc")), Some("Db2"));
        assert_eq!(name(Some("oracle"), Some("ora_pmon_orcl")), Some("Oracle Database"));
        assert_eq!(name(Some("postgres"), None), Some("PostgreSQL"));
        assert_eq!(name(Some("apache"), Some("httpd")), None);
        assert_eq!(name(None, None), None);
        assert_eq!(name(Some("adm"), None), None, "no instance's owner");
    }
}
