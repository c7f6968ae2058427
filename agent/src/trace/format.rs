//! The kernel's description of its trace events: `events/SYSTEM/EVENT/format`, and of the pages they come in:
//! `events/header_page`.
//!
//! Fields are found by name: offsets differ between kernels (a real-time kernel has one more common field). Bytes after
//! the fields, unknown fields and unknown lines are passed over. Sources: `kernel/trace/trace_events.c` (f_show),
//! `kernel/trace/ring_buffer.c` (ring_buffer_print_page_header).

/// The most bytes of such a file that are read: the longest has 1 kB.
pub const MAX_FORMAT: usize = 16 << 10;
/// The most fields of one event that are looked at.
const MAX_FIELDS: usize = 64;
/// Past this offset no field of an event lies: an event fits a page.
const MAX_OFFSET: usize = 4096;

/// One field: where it lies, and how many bytes it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Bytes before it.
    pub offset: usize,
    /// Its bytes: 1, 2, 4 or 8.
    pub size: usize,
}

impl Field {
    /// Its value, unsigned, little-endian; `None` = the bytes end before it.
    pub fn of(self, bytes: &[u8]) -> Option<u64> {
        let end = self.offset.checked_add(self.size)?;
        let raw = bytes.get(self.offset..end)?;
        let mut whole = [0; 8];
        whole.get_mut(..self.size)?.copy_from_slice(raw);
        Some(u64::from_le_bytes(whole))
    }

    /// Its low 32 bits as a C `int`: an argument of a call is kept in the whole register, whose upper half means nothing.
    pub fn int(self, bytes: &[u8]) -> Option<i32> {
        let [a, b, c, d, ..] = self.of(bytes)?.to_le_bytes();
        Some(i32::from_le_bytes([a, b, c, d]))
    }
}

/// An event as the kernel describes it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Format {
    /// Its number (`common_type` of each such event).
    pub id: u16,
    fields: Vec<(String, Field)>,
}

impl Format {
    /// Reads a `format` file; `None` = it has no id, or no field.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(text.get(..text.len().min(MAX_FORMAT))?);
        let id = text.lines().find_map(|line| line.strip_prefix("ID:")?.trim().parse().ok())?;
        let fields: Vec<_> = text.lines().filter_map(field).take(MAX_FIELDS).collect();
        (!fields.is_empty()).then_some(Self { id, fields })
    }

    /// The field of that name.
    pub fn field(&self, name: &str) -> Option<Field> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, field)| *field)
    }
}

/// `field:unsigned short common_type; offset:0; size:2; signed:0;`, between tabs: name and place, if its size is an integer's.
fn field(line: &str) -> Option<(String, Field)> {
    let mut parts = line.trim().split(';').map(str::trim);
    let declaration = parts.next()?.strip_prefix("field:")?;
    let name = declaration.rsplit([' ', '*']).next().filter(|name| !name.is_empty() && name.len() <= 64)?;
    let (mut offset, mut size) = (None, None);
    for part in parts {
        if let Some(value) = part.strip_prefix("offset:") {
            offset = value.parse::<usize>().ok().filter(|offset| *offset <= MAX_OFFSET);
        } else if let Some(value) = part.strip_prefix("size:") {
            size = value.parse::<usize>().ok();
        }
    }
    let size = size.filter(|size| matches!(size, 1 | 2 | 4 | 8))?;
    Some((name.to_owned(), Field { offset: offset?, size }))
}

/// How a page begins, as `events/header_page` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageHeader {
    /// Time of the page, 8 bytes.
    pub timestamp: Field,
    /// Bytes of events, and flags.
    pub commit: Field,
    /// Where events begin.
    pub data: usize,
    /// Bytes of a whole page.
    pub page: usize,
}

impl PageHeader {
    /// The largest page that is believed: sub-buffers have up to 64 KiB by default, and a power of two of pages.
    pub const MAX_PAGE: usize = 1 << 20;

    /// Reads `events/header_page`; `None` = a field is missing or makes no sense.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(text.get(..text.len().min(MAX_FORMAT))?);
        let known = |name: &str| text.lines().filter_map(field).find(|(n, _)| n == name).map(|(_, field)| field);
        let (timestamp, commit) = (known("timestamp")?, known("commit")?);
        let line = text.lines().find(|line| line.contains(" data;"))?;
        let number =
            |what: &str| line.split(';').find_map(|part| part.trim().strip_prefix(what)?.parse::<usize>().ok());
        let (data, size) = (number("offset:")?, number("size:")?);
        let page = data.checked_add(size).filter(|page| *page <= Self::MAX_PAGE)?;
        let before_data = |field: Field| field.offset + field.size <= data;
        let sound = timestamp.size == 8 && matches!(commit.size, 4 | 8) && size > 0;
        (sound && before_data(timestamp) && before_data(commit)).then_some(Self { timestamp, commit, data, page })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTER: &str = "name: sys_enter_semget\nID: 2046\nformat:\n\tfield:unsigned short common_type;\toffset:0;\t\
        size:2;\tsigned:0;\n\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n\tfield:int __syscall_nr;\t\
        offset:8;\tsize:4;\tsigned:1;\n\tfield:key_t key;\toffset:16;\tsize:8;\tsigned:0;\n\tfield:struct shmid_ds \
        * buf;\toffset:32;\tsize:8;\tsigned:0;\n\nprint fmt: \"key: 0x%08lx\", ((unsigned long)(REC->key))\n";
    const PAGE: &str = "\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;\n\tfield: local_t commit;\toffset:8;\t\
        size:8;\tsigned:1;\n\tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;\n\tfield: char data;\toffset:16;\t\
        size:4080;\tsigned:0;\n";

    #[test]
    fn fields_are_found_by_name() {
        let format = Format::parse(ENTER.as_bytes()).unwrap();
        assert_eq!(format.id, 2046);
        assert_eq!(format.field("common_pid"), Some(Field { offset: 4, size: 4 }));
        assert_eq!(format.field("key"), Some(Field { offset: 16, size: 8 }));
        assert_eq!(format.field("buf"), Some(Field { offset: 32, size: 8 }));
        assert_eq!(format.field("nsems"), None);
    }

    #[test]
    fn a_description_without_id_or_with_fields_beyond_a_page_is_none() {
        assert_eq!(Format::parse(b"name: x\n"), None);
        assert_eq!(Format::parse(b"ID: 70000\n"), None);
        let far = "ID: 7\n\tfield:int a;\toffset:5000;\tsize:4;\tsigned:1;\n\tfield:int b;\toffset:4;\tsize:3;\n";
        assert_eq!(Format::parse(far.as_bytes()), None);
    }

    #[test]
    fn the_pages_header_is_where_it_says() {
        let header = PageHeader::parse(PAGE.as_bytes()).unwrap();
        assert_eq!((header.data, header.page), (16, 4096));
        assert_eq!(header.commit, Field { offset: 8, size: 8 });
        assert_eq!(PageHeader::parse(PAGE.replace("4080", "99999999").as_bytes()), None);
        assert_eq!(PageHeader::parse(PAGE.replace("offset:16", "offset:8").as_bytes()), None);
    }

    #[test]
    fn a_value_is_read_only_where_the_bytes_reach() {
        let field = Field { offset: 2, size: 4 };
        assert_eq!(field.of(&[0, 0, 1, 2, 3, 4]), Some(0x0403_0201));
        assert_eq!(field.of(&[0, 0, 1, 2, 3]), None);
        assert_eq!(Field { offset: 0, size: 8 }.int(&[0xff, 0xff, 0xff, 0xff, 7, 7, 7, 7]), Some(-1));
    }
}
