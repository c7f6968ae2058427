//! What `/proc/sysvipc` can hold, and what becomes of it.

use super::*;
use proptest::prelude::*;

const SEM: &str = "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n";
const SHM_2_6: &str = "       key      shmid perms       size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime      ctime\n";
const ALL: Extent = Extent { budget: usize::MAX, whole: true };

fn sem(rows: &str) -> Result<Listing<SemArray>, ParseError> {
    parse_sem(format!("{SEM}{rows}").as_bytes(), ALL)
}

#[test]
fn the_founding_row_reads_as_it_is() {
    let listing = sem("0 98304 600 1 1001 4294967295 0 0 0 1241364839\n").unwrap();
    let array = SemArray {
        key: Key(0),
        semid: 98304,
        perms: Perms(0o600),
        nsems: 1,
        owner: Owner { uid: 1001, gid: 4_294_967_295, cuid: 0, cgid: 0 },
        otime: 0,
        ctime: 1_241_364_839,
    };
    assert_eq!(listing, Listing { objects: vec![array], left_out: 0, lacking: vec![] });
}

#[test]
fn a_key_beyond_2_31_is_negative_as_the_kernel_prints_it() {
    let listing = sem("-2147483648 1 600 1 0 0 0 0 0 0\n").unwrap();
    assert_eq!(listing.objects[0].key.to_string(), "0x80000000");
}

#[test]
fn columns_are_found_by_name_and_unknown_ones_passed_over() {
    let text = "semid new key perms nsems uid gid cuid cgid ctime otime colour\n7 x -1 600 3 1 2 3 4 50 40 red\n";
    let array = parse_sem(text.as_bytes(), ALL).unwrap().objects[0];
    assert_eq!((array.semid, array.key, array.nsems, array.otime, array.ctime), (7, Key(-1), 3, 40, 50));
}

#[test]
fn a_kernel_without_rss_and_swap_is_told() {
    let text = format!("{SHM_2_6}0 1 3600 18446744073709551615 1 2 3 4 5 6 7 8 9 10\n");
    let listing = parse_shm(text.as_bytes(), ALL).unwrap();
    assert_eq!(listing.lacking, ["rss", "swap"]);
    assert_eq!(listing.objects[0].size, u64::MAX);
    assert!(listing.objects[0].perms.dest() && listing.objects[0].perms.locked());
}

#[test]
fn a_missing_column_is_named() {
    let error = parse_sem(b"key semid perms uid gid cuid cgid otime ctime\n", ALL).unwrap_err();
    assert_eq!(error.to_string(), "/proc/sysvipc/sem line 1: no column nsems");
}

#[test]
fn a_short_line_is_an_error_with_its_place() {
    let error = sem("0 1 600 1 0 0 0 0 0 0\n0 2 600 1 0 0\n").unwrap_err();
    assert_eq!(error.to_string(), "/proc/sysvipc/sem line 3: ends in or before column cuid");
    assert_eq!(error.line, 3);
}

#[test]
fn a_last_line_without_its_end_is_not_believed() {
    let error = sem("0 1 600 1 0 0 0 0 0 12413648").unwrap_err();
    assert_eq!(error.to_string(), "/proc/sysvipc/sem line 2: ends in or before column ctime");
}

#[test]
fn a_line_longer_than_the_header_is_an_error() {
    let error = sem("0 1 600 1 0 0 0 0 0 0 9\n").unwrap_err();
    assert_eq!(error.to_string(), "/proc/sysvipc/sem line 2: 11 values under 10 columns");
}

#[test]
fn a_value_out_of_range_is_shown_safely() {
    let error = sem("0 2147483648 600 1 0 0 0 0 0 0\n").unwrap_err();
    let wanted = "a number from -2147483648 to 2147483647";
    assert_eq!(error.to_string(), format!("/proc/sysvipc/sem line 2: column semid: 2147483648 is not {wanted}"));
    let error = sem("0 1 68 1 0 0 0 0 0 0\n").unwrap_err();
    assert!(error.to_string().contains("column perms: 68 is not an octal number"), "{error}");
    let error = sem("0 1 600 \u{1b}[2J 0 0 0 0 0 0\n").unwrap_err();
    assert!(error.to_string().contains("column nsems: \\x1b[2J is not"), "{error}");
    assert!(sem("0 +1 600 1 0 0 0 0 0 0\n").is_err());
}

#[test]
fn a_time_before_1970_comes_back_negative() {
    let listing = sem("0 1 600 1 0 0 0 0 18446744073709551615 -2\n").unwrap();
    assert_eq!((listing.objects[0].otime, listing.objects[0].ctime), (-1, -2));
}

#[test]
fn an_empty_file_is_no_empty_list() {
    assert_eq!(
        parse_sem(b"", ALL).unwrap_err().to_string(),
        "/proc/sysvipc/sem line 1: empty, without the line that names the columns"
    );
    assert_eq!(sem("").unwrap().objects, []);
}

#[test]
fn beyond_the_budget_lines_are_counted_not_parsed() {
    let text = format!("{SEM}0 1 600 1 0 0 0 0 0 0\n0 2 600 1 0 0 0 0 0 0\ngarbage\n");
    let listing = parse_sem(text.as_bytes(), Extent { budget: 1, whole: true }).unwrap();
    assert_eq!((listing.objects.len(), listing.left_out), (1, 2));
    let cut = parse_sem(&text.as_bytes()[..text.len() - 3], Extent { budget: 9, whole: false }).unwrap();
    assert_eq!(cut.objects.len(), 2);
}

proptest! {
    #[test]
    fn any_bytes_parse_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400), whole: bool) {
        let extent = Extent { budget: 100, whole };
        let _ = (parse_sem(&bytes, extent), parse_shm(&bytes, extent), parse_msg(&bytes, extent));
    }

    #[test]
    fn near_files_parse_or_are_refused(
        rows in proptest::collection::vec("[ 0-9\\-x]{0,12}( [0-9]{1,21}| -[0-9]{1,10}){0,18}\n?", 0..5),
        header in prop::sample::select(vec![SEM, SHM_2_6]),
    ) {
        let text = format!("{header}{}", rows.concat());
        let _ = (parse_sem(text.as_bytes(), ALL), parse_shm(text.as_bytes(), ALL), parse_msg(text.as_bytes(), ALL));
    }

    #[test]
    fn a_file_cut_anywhere_yields_its_whole_lines_or_an_error(
        rows in proptest::collection::vec((any::<i32>(), 0..=i32::MAX, any::<u32>(), any::<u64>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let lines: Vec<String> =
            rows.iter().map(|(key, id, n, time)| format!("{key} {id} 600 {n} {n} {n} {n} {n} {time} 0\n")).collect();
        let text = format!("{SEM}{}", lines.concat());
        let whole = sem(&lines.concat()).unwrap().objects;
        prop_assert_eq!(whole.len(), rows.len());
        let cut = cut.index(text.len());
        if let Ok(listing) = parse_sem(&text.as_bytes()[..cut], ALL) {
            prop_assert!(cut > 0 && text.as_bytes()[cut - 1] == b'\n');
            prop_assert_eq!(&whole[..listing.objects.len()], &listing.objects[..]);
        }
    }
}
