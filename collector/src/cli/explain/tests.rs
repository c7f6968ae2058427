//! The answer as a person reads it.

use super::*;

/// A whole answer with these fields in place of its own.
fn shown(fields: &str) -> String {
    let mut document: serde_json::Value = serde_json::from_str(
        r#"{"message":"x","product":"PHP","call":"semget","call_guessed":false,"errno":"ENOSPC","host":"h1",
        "host_id":"00000000000000ab","asked_at":"2026-11-24T09:12:30.000Z","at":"2026-11-24T09:12:03.120Z","skew_ms":0,
        "verdict":"refused","why":"a traced semget was refused by SEMMNI, 128 of 128",
        "know":"PHP makes an array of 3 for each key and removes it only with sem_remove()",
        "namespace":4026531839,"namespace_name":null,"own_namespace":true,"resource":"SEMMNI","used_u64":"128",
        "limit_u64":"128","holder":{"uid":1007,"user":"shop","comm":"php-cgi","arrays":96,"orphans":96,
        "orphans_certain":96,"oldest_orphan_at":"2026-11-20T08:00:00.000Z"},"holder_keep":null,
        "others":[{"uid":26,"user":"postgres","comm":"postgres","arrays":20,"orphans":0},
        {"uid":110,"user":"zabbix","comm":null,"arrays":11,"orphans":0}],"others_hold":32,
        "victim":{"pid":13808,"comm":"php-fpm","uid":33,"user":"www-data","count":17,"is_its_own":true},"removed":null,
        "removed_after":null,"remover":null,"looked_at":[],"gaps":[],"traced":true,
        "remedy":[{"step":"raise SEMMNI from 128 (128 in use) to 256, until the next boot","command":"sysctl -w x",
        "risk":"none: nothing is removed"},{"step":"remove the 96 arrays of uid 1007 (shop) that nobody holds",
        "command":"R='1'; ipcrm","risk":"a removed array does not come back"}]}"#,
    )
    .unwrap();
    let with: serde_json::Value = serde_json::from_str(fields).unwrap();
    for (name, value) in with.as_object().unwrap() {
        document[name] = value.clone();
    }
    text(&serde_json::from_value(document).unwrap(), &TimeZone::UTC, false)
}

#[test]
fn a_refusal_reads_as_limit_moment_holder_victim_and_what_to_do() {
    assert_eq!(
        shown("{}"),
        "\
h1  2026-11-24 09:12:03 +0000  PHP  semget ENOSPC
It was SEMMNI 128/128, not the disk: a traced semget was refused by SEMMNI, 128 of 128
where   namespace 4026531839, the host's own
holder  shop(1007) php-cgi holds 96, 96 orphans (96 certain), the oldest of 2026-11-20 08:00:00 +0000
others  32: postgres(26) postgres 20, zabbix(110) 11, and 1 of others; leave them
victim  php-fpm (pid 13808) as www-data(33), 17 calls
know    PHP makes an array of 3 for each key and removes it only with sem_remove()

What to do
1. raise SEMMNI from 128 (128 in use) to 256, until the next boot
sysctl -w x
   risk: none: nothing is removed
2. remove the 96 arrays of uid 1007 (shop) that nobody holds
R='1'; ipcrm
   risk: a removed array does not come back
"
    );
}

#[test]
fn no_limit_near_reads_as_such_with_what_was_looked_at() {
    let fields = r#"{"verdict":"not_reached","resource":null,"used_u64":null,"limit_u64":null,"holder":null,"others":[],
        "others_hold":0,"victim":null,"namespace":null,"own_namespace":null,"know":null,
        "why":"SEMMNI was 12 of 32000 at most: it was not that; nor was it near in any of the 2 namespaces seen",
        "looked_at":[{"namespace":4026532201,"namespace_name":"pause","own_namespace":false,"resource":"SEMMNI",
        "used_u64":"3","limit_u64":"128","at":"2026-11-24T09:12:00.000Z"}],
        "gaps":[{"from":"2026-11-24T09:03:00.000Z","to":null,"state":"open","reason":"host_down",
        "last_sample_at":null,"next_sample_at":null}],
        "remedy":[{"step":"look elsewhere","command":null,"risk":""}]}"#;
    assert_eq!(
        shown(fields),
        "\
h1  2026-11-24 09:12:03 +0000  PHP  semget ENOSPC
No limit was near, not the disk: SEMMNI was 12 of 32000 at most: it was not that; nor was it near in any of the 2 namespaces seen
looked  SEMMNI 3/128 in namespace 4026532201 pause
gap     2026-11-24 09:03:00 +0000 .. ?: nothing is known of that time

What to do
1. look elsewhere
"
    );
}

#[test]
fn a_removal_names_who_did_it_and_a_victim_that_is_not_known_says_why() {
    let removed = shown(
        r#"{"verdict":"removed","why":"semaphore array 5 was removed by ipcrm (pid 991)","resource":null,"limit_u64":null,
        "holder":null,"others_hold":0,"victim":null,"errno":"EIDRM","know":null,"remedy":[],
        "removed":{"kind":"sem","id":5,"key":"0x00000001"},"removed_after":"2026-11-24T09:12:00.000Z",
        "remover":{"pid":991,"comm":"ipcrm","uid":1000,"user":"build","parent":"cron"}}"#,
    );
    assert!(
        removed.contains("The object was removed: semaphore array 5 was removed by ipcrm (pid 991)\n"),
        "{removed}"
    );
    assert!(removed.contains("when    sem 5 was there until 2026-11-24 09:12:00 +0000 at least\n"), "{removed}");
    assert!(removed.contains("by      ipcrm (pid 991) as build(1000), run by cron\n"), "{removed}");
    assert!(!removed.contains("victim"), "{removed}");
    let full = shown(r#"{"verdict":"full","victim":null,"traced":false}"#);
    assert!(full.contains("victim  not known: refused calls are not traced on this host\n"), "{full}");
    let near = shown(r#"{"verdict":"near","victim":null}"#);
    assert!(near.contains("It was probably SEMMNI 128/128, not the disk: "), "{near}");
    let other = r#"{"victim":{"pid":1,"comm":"x","uid":null,"user":null,"count":1,"is_its_own":false}}"#;
    assert!(shown(other).contains("victim  x (pid 1); no refusal of that product was traced, this one met the same\n"));
    assert!(
        shown(r#"{"product":null,"call_guessed":true}"#)
            .starts_with("h1  2026-11-24 09:12:03 +0000  unknown product  semget (guessed) ENOSPC\n")
    );
}
