use std::time::Instant as Clock;
use highwater::query::Reading;
use highwater::query::capacity::{Question, gather, tell};
use highwater::cli::migrate::DatabaseUrl;
use highwater::store::Db;
use highwater::store::capacity::VARIANT;
use crate::host::FIRST_DAY_MS;
use crate::stack::DAY_MS;

fn cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = text.rsplit_once(") ").unwrap().1.split(' ').collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}
fn cpu_server() -> f64 {
    let pid = std::env::var("PGPID").unwrap();
    let mut sum = 0.0;
    for e in std::fs::read_dir("/proc").unwrap() {
        let e = e.unwrap();
        let Some(_pid) = e.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
        let Ok(text) = std::fs::read_to_string(e.path().join("stat")) else { continue };
        let fields: Vec<&str> = text.rsplit_once(") ").unwrap().1.split(' ').collect();
        if fields[1] == pid { sum += (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0 }
    }
    sum
}
fn spin() -> f64 {
    let b = cpu();
    let mut x = 1_u64;
    for i in 0..100_000_000_u64 { x = x.wrapping_mul(6364136223846793005).wrapping_add(i); }
    std::hint::black_box(x);
    cpu() - b
}

pub fn measure(variants: &[String], rounds: usize) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let url = DatabaseUrl::named(Some(std::env::var("HWDB").unwrap().as_ref())).unwrap().unwrap();
    let db = runtime.block_on(Db::connect(url.options(), 8)).unwrap();
    let now_ms = FIRST_DAY_MS + 30 * DAY_MS;
    let question = Question { since_ms: FIRST_DAY_MS, most: 1_000, ..Question::default() };
    let mut first = None;
    for _ in 0..rounds {
        for v in variants {
            VARIANT.store(v.parse().unwrap(), std::sync::atomic::Ordering::SeqCst);
            let s = spin();
            let (c0, s0, t0) = (cpu(), cpu_server(), Clock::now());
            let gathered = runtime.block_on(async {
                let mut reading = Reading::begin(&db).await.unwrap();
                gather(&mut reading, &question, now_ms).await.unwrap()
            });
            let (c1, s1, t1) = (cpu(), cpu_server(), t0.elapsed());
            let told = tell(&gathered, &question);
            let (c2, t2) = (cpu(), t0.elapsed());
            println!("variant {v}: spin {s:.2} read: here {:.2} server {:.2} wall {:.2}; tell: {:.2} wall {:.2}", c1 - c0, s1 - s0, t1.as_secs_f64(), c2 - c1, (t2 - t1).as_secs_f64());
            if v != "4" {
            let f = first.get_or_insert_with(|| told.clone());
            assert!(*f == told, "another answer"); }
        }
    }
}
