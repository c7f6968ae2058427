//! What a statement must look like so that the same text also runs where the tables are distributed by host.

use crate::repository::{SourceFile, check, rust_files};
use crate::rust::{lex_without_tests, test_files};

const STORE: &str = "collector/src/store/";

/// Begins a statement, as the first word of a string.
const VERBS: &[&str] = &[
    "SELECT ",
    "INSERT INTO ",
    "UPDATE ",
    "DELETE FROM ",
    "WITH ",
    "CREATE ",
    "ALTER ",
    "DROP ",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "SET ",
    "DO $",
    "GRANT ",
    "REVOKE ",
    "TRUNCATE ",
    "COPY ",
    "LOCK ",
    "MERGE ",
    "DECLARE ",
    "LISTEN ",
    "NOTIFY ",
    "VACUUM",
    "PREPARE ",
];

/// Strings that are statements: their place and text.
fn statements(file: &SourceFile) -> Vec<(usize, &str)> {
    let lexed = lex_without_tests(&file.text);
    let texts = lexed.strings.iter().map(|s| (s.start, &file.text[s.clone()]));
    texts.filter(|(_, text)| VERBS.iter().any(|v| text.trim_start().starts_with(v)) && is_statement(text)).collect()
}

/// A sentence for people may begin with the same word; a statement of more than a word has a second keyword.
fn is_statement(text: &str) -> bool {
    const SECOND: &[&str] = &[
        " FROM ",
        " SET ",
        " VALUES",
        " INTO ",
        " AS ",
        " TABLE ",
        " ROLE ",
        " DATABASE ",
        " INDEX ",
        " LOCAL ",
        "$$",
        "$1",
    ];
    let one_line = words(text);
    !one_line.contains(' ')
        || one_line.starts_with("BEGIN ")
        || SECOND.iter().any(|s| one_line.contains(s))
        || one_line.starts_with("SELECT ") && one_line.contains('(')
}

fn words(text: &str) -> String {
    text.replace("\\n", " ").replace('\\', " ").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What one statement may not say, and why.
fn lint(statement: &str) -> Vec<String> {
    let text = words(statement);
    let upper = text.to_uppercase();
    let mut wrong = Vec::new();
    if upper.starts_with("MERGE ") || upper.contains(" MERGE INTO ") {
        wrong.push("MERGE is refused for distributed tables".to_owned());
    }
    if upper.contains("SKIP LOCKED") {
        wrong.push("SKIP LOCKED is refused for distributed tables: leases are rows".to_owned());
    }
    if upper.contains("LATERAL") && upper.contains("UNNEST(") {
        wrong.push("LATERAL over unnest is refused: start from a table by host_id".to_owned());
    }
    for word in ["PG_ADVISORY", "PG_TRY_ADVISORY", "LISTEN ", "NOTIFY "] {
        if upper.contains(word) {
            wrong.push(format!("{} works on one node only: leases are rows", word.trim()));
        }
    }
    if let Some(call) = call_after_set(&text) {
        wrong.push(format!("{call}( after SET: times, ids and randomness are parameters"));
    }
    wrong
}

/// A function other than COALESCE, GREATEST, LEAST and the like (which are expressions) called in the SET of an UPDATE
/// or an upsert.
fn call_after_set(text: &str) -> Option<String> {
    const EXPRESSIONS: &[&str] = &[
        "COALESCE", "GREATEST", "LEAST", "NULLIF", "CAST", "ANY", "IN", "AND", "OR", "NOT", "ROW", "NUMERIC", "CASE",
        "WHEN", "THEN", "ELSE", "SELECT", "SET",
    ];
    let upper = text.to_uppercase();
    let is_dml = upper.contains("UPDATE ");
    for (set, _) in upper.match_indices(" SET ").filter(|_| is_dml) {
        let clause = &text[set + 5..];
        let end = [" WHERE ", " FROM ", " RETURNING "].iter().filter_map(|k| clause.to_uppercase().find(k)).min();
        let clause = &clause[..end.unwrap_or(clause.len())];
        for (open, _) in clause.match_indices('(') {
            let name =
                clause[..open].trim_end().rsplit(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("");
            let starts_name = name.chars().next().is_some_and(char::is_alphabetic);
            if starts_name && !EXPRESSIONS.contains(&name.to_uppercase().as_str()) {
                return Some(name.to_owned());
            }
        }
    }
    None
}

/// In the store: every statement is a constant `.._SQL` and passes [`lint`]; elsewhere there is none.
fn wrong_sql(file: &SourceFile) -> Vec<String> {
    let mut wrong = Vec::new();
    for (at, text) in statements(file) {
        if !file.path.starts_with(STORE) {
            wrong.push(file.complaint(at, "SQL belongs in collector/src/store/ and migrations/"));
        } else if !in_constant(file, at) {
            wrong.push(file.complaint(at, "a statement is a constant whose name ends in _SQL"));
        }
        wrong.extend(lint(text).iter().map(|what| file.complaint(at, what)));
    }
    if file.path.starts_with(STORE) {
        wrong.extend(counted_inserts(file));
    }
    wrong
}

/// Whether the item that holds `at` is `const NAME_SQL` or a macro that such constants are made with.
fn in_constant(file: &SourceFile, at: usize) -> bool {
    let before = &file.text[..at];
    let item = before.rfind("const ").into_iter().chain(before.rfind("macro_rules!")).max();
    item.is_some_and(|start| {
        let head = &before[start..];
        (head.starts_with("macro_rules!") || head.split(':').next().is_some_and(|n| n.trim_end().ends_with("_SQL")))
            && !head.contains(";\n")
    })
}

/// `rows_affected` of an INSERT .. SELECT counts the conflicting rows too where tables are distributed: RETURNING
/// counts right. So a function that asks for it may not run such a statement.
fn counted_inserts(file: &SourceFile) -> Vec<String> {
    let lexed = lex_without_tests(&file.text);
    let mut wrong = Vec::new();
    for (at, _) in lexed.code.match_indices("rows_affected") {
        let start = lexed.code[..at].rfind("fn ").unwrap_or(0);
        let body = &lexed.code[start..at];
        let names = body.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|w| w.ends_with("_SQL"));
        let inserts = names.filter(|name| {
            let definition = file.text.find(&format!("const {name}:")).map(|d| &file.text[d..]);
            definition.and_then(|d| d.split(";\n").next()).is_some_and(|d| {
                let upper = words(d).to_uppercase();
                upper.contains("INSERT INTO") && upper.contains(" SELECT ")
            })
        });
        wrong.extend(inserts.map(|n| file.complaint(at, &format!("rows_affected of {n}: use RETURNING"))));
    }
    wrong
}

#[test]
fn statements_run_where_tables_are_distributed() {
    let all = rust_files();
    let tests = test_files(&all);
    let files: Vec<SourceFile> = all
        .into_iter()
        .filter(|f| {
            (f.path.starts_with("collector/src/") || f.path.starts_with("agent/src/")) && !tests.contains(&f.path)
        })
        // The private cluster is not the history: its role and database are made where it is made.
        .filter(|f| !f.path.starts_with("collector/src/embedded/"))
        .collect();
    let found: usize = files.iter().map(|f| statements(f).len()).sum();
    assert!(found > 30, "only {found} statements found: has the store moved?");
    check(&files, wrong_sql);
}

#[test]
fn a_statement_that_would_not_run_is_found() {
    let refused = [
        "UPDATE host_status SET last_seen_ms = now() WHERE host_id = $1",
        "INSERT INTO lease AS l SELECT 1 ON CONFLICT (name) DO UPDATE SET until = clock_timestamp()",
        "MERGE INTO host USING x ON true WHEN MATCHED THEN DO NOTHING",
        "SELECT host_id FROM stream FOR UPDATE SKIP LOCKED",
        "SELECT * FROM unnest($1::bigint[]) AS u CROSS JOIN LATERAL (SELECT 1 FROM frame LIMIT 1) f",
        "SELECT pg_advisory_lock($1)",
    ];
    for text in refused {
        assert_eq!(lint(text).len(), 1, "{text}");
    }
    let fine =
        "UPDATE stream AS s SET next_seq = coalesce(e.next, 0) FROM unnest($1::bigint[]) AS e RETURNING length(chain)";
    assert_eq!(lint(fine), Vec::<String>::new());
}

#[test]
fn a_statement_outside_the_store_is_found() {
    let elsewhere = SourceFile::planted("collector/src/query/as_of.rs", "let q = \"SELECT body FROM frame\";");
    assert_eq!(wrong_sql(&elsewhere).len(), 1);
    let nameless = SourceFile::planted("collector/src/store/frame.rs", "fn f() { query(\"DELETE FROM frame\") }");
    assert_eq!(wrong_sql(&nameless).len(), 1);
    let named =
        SourceFile::planted("collector/src/store/frame.rs", "const ALL_SQL: &str = \"SELECT body FROM frame\";\n");
    assert_eq!(wrong_sql(&named), Vec::<String>::new());
    let counted = "const PUT_SQL: &str = \"INSERT INTO frame SELECT 1\";\nfn f() { query(PUT_SQL).rows_affected() }";
    assert_eq!(wrong_sql(&SourceFile::planted("collector/src/store/frame.rs", counted)).len(), 1);
}
