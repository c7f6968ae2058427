//! Amounts of bytes for the eye. Pure.

/// `209715200` -> `200 MiB`, `1140850688` -> `1.06 GiB`: three digits, cut, of the largest unit that leaves one.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [(&str, u32); 6] = [("EiB", 60), ("PiB", 50), ("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let largest = UNITS.into_iter().find(|(_, shift)| bytes >> shift > 0);
    let Some((unit, shift)) = largest else { return format!("{bytes} bytes") };
    let hundredths = (u128::from(bytes) * 100) >> shift;
    let (whole, part) = (hundredths / 100, hundredths % 100);
    match (whole, part) {
        (_, 0) | (100.., _) => format!("{whole} {unit}"),
        (10.., _) => format!("{whole}.{} {unit}", part / 10),
        _ => format!("{whole}.{part:02} {unit}"),
    }
}

/// The same of a difference, as JSON writes it: `-4096` -> `-4 KiB`.
pub fn signed_bytes(digits: &str) -> String {
    let (sign, amount) = match digits.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("+", digits),
    };
    amount.parse().map_or_else(|_| digits.to_owned(), |n| format!("{sign}{}", bytes(n)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_has_three_digits_of_its_largest_unit() {
        let cases: [(u64, &str); 8] = [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1 KiB"),
            (209_715_200, "200 MiB"),
            (1_140_850_688, "1.06 GiB"),
            (12_000_000_000, "11.1 GiB"),
            (1_047_552_000, "999 MiB"),
            (u64::MAX, "15.9 EiB"),
        ];
        for (amount, text) in cases {
            assert_eq!(bytes(amount), text, "{amount}");
        }
        assert_eq!(signed_bytes("-4096"), "-4 KiB");
        assert_eq!(signed_bytes("0"), "+0 bytes");
        assert_eq!(signed_bytes("no number"), "no number");
    }
}
