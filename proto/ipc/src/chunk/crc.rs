//! CRC-32 (ISO 3309), eight bytes at a time.

/// Of the bytes.
pub(super) fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    let (eights, rest) = bytes.as_chunks::<8>();
    for eight in eights {
        let mut word = *eight;
        word.iter_mut().zip(crc.to_le_bytes()).for_each(|(byte, of_crc)| *byte ^= of_crc);
        crc = TABLES.iter().rev().zip(word).fold(0, |crc, (table, byte)| crc ^ table[usize::from(byte)]);
    }
    for byte in rest {
        crc = crc >> 8 ^ TABLES[0][usize::from(crc.to_le_bytes()[0] ^ byte)];
    }
    !crc
}

/// The remainder of each byte with 0 to 7 zero bytes behind it.
static TABLES: [[u32; 256]; 8] = {
    let mut out = [[0; 256]; 8];
    let mut table = 0;
    while table < 8 {
        let mut byte = 0_u32;
        while byte < 256 {
            let (mut crc, mut bits) = if table == 0 { (byte, 8) } else { (out[table - 1][byte as usize], 8) };
            while bits > 0 {
                crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
                bits -= 1;
            }
            out[table][byte as usize] = crc;
            byte += 1;
        }
        table += 1;
    }
    out
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_what_others_give() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b""), 0);
        let long: alloc::vec::Vec<u8> = (0..=255).collect();
        assert_eq!(crc32(&long), 0x2905_8c73);
    }
}
