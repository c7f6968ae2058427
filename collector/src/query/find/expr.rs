//! What is looked for: `sem.key=0x0d4d*,uid=48`. Pure.
//!
//! Terms joined with commas, all of which must hold for one object in one sample. A term is a field, perhaps with the
//! kind of object before it (`shm.size`), an operator and a value. Only `=` and `!=` have a sense for keys, names,
//! permissions and orphans; `!=` is true where `=` is not, also of a name that is not known.

use std::str::FromStr;

use highwater_ipc::object::Kind;
use highwater_ipc::snapshot::{Namespace, State};
use highwater_ipc::text::HostText;
use highwater_ipc::who::Grade;

use super::field::{Field, Kinds, TextField, comm_of, grade_of};
use crate::query::change::AnyObject;
use crate::store::fleet::HostName;

/// An expression that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expr {
    pub(super) kinds: Kinds,
    pub(super) tests: Vec<Test>,
    hosts: Vec<HostTest>,
}

/// One condition on an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Test {
    /// A number.
    Number { field: Field, op: Op, value: i128 },
    /// A key between two, both included, compared as the unsigned number that its digits show; if said so, also any
    /// segment that is marked for destruction, whose key was another before.
    Key { differs: bool, range: (u32, u32), or_dest: bool },
    /// A name.
    Text { field: TextField, differs: bool, text: TextPattern },
    /// Whether nobody seems to hold it.
    Orphan { differs: bool, is: OrphanIs },
}

/// How a number compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Eq,
    Ne,
    Gt,
    Ge,
    Lt,
    Le,
}

/// A name, or how one begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TextPattern {
    pub(super) bytes: Vec<u8>,
    pub(super) is_prefix: bool,
}

/// What can be asked about orphans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OrphanIs {
    /// Of any grade.
    Any,
    /// Not an orphan.
    No,
    /// Of this grade.
    Of(Grade),
}

/// A condition on a host: how its name begins, or its id.
#[derive(Clone, Debug, PartialEq, Eq)]
struct HostTest {
    differs: bool,
    begins: String,
}

/// Why a text is no expression: the word, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExprError {
    /// There is nothing in it.
    #[error("nothing is looked for: say what, e.g. sem.key=0x0d4d* or uid=48,orphan=certain")]
    Empty,
    /// It is longer than anybody needs.
    #[error("the expression has more than {most} {what}: leave some out")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// How many it may have.
        most: usize,
    },
    /// A term without an operator.
    #[error("{word:?} compares nothing: write FIELD=VALUE with =, !=, >, >=, < or <=, e.g. uid=48")]
    NoOperator {
        /// The term.
        word: String,
    },
    /// No object has such a field.
    #[error(
        "{word:?} is no field; there are key, id, uid, cuid, gid, cgid, user, comm, size, nsems, nattch, cbytes, qnum, \
         perms, orphan, namespace, kind and host, with sem., shm. or msg. before it for one kind of objects"
    )]
    UnknownField {
        /// The word.
        word: String,
    },
    /// Objects of that kind have no such field.
    #[error("{kind} objects have no {field}: write {field} alone")]
    WrongKind {
        /// The field.
        field: &'static str,
        /// The kind.
        kind: &'static str,
    },
    /// A value is missing.
    #[error("{field} is compared with nothing: write a value behind the operator; a comma in it is \\x2c")]
    NoValue {
        /// The field.
        field: String,
    },
    /// The value has no sense for that field.
    #[error("{field}: {value:?} is not {wants}")]
    BadValue {
        /// The field.
        field: String,
        /// The value.
        value: String,
        /// What it must be.
        wants: &'static str,
    },
    /// The operator has no sense for that field.
    #[error("{field} is the same or not: write {field}=VALUE or {field}!=VALUE instead of {op}")]
    BadOperator {
        /// The field.
        field: String,
        /// The operator.
        op: &'static str,
    },
    /// The terms are about objects of different kinds.
    #[error("no object is of two kinds: {text:?} asks for fields of different ones; ask one after the other")]
    TwoKinds {
        /// The expression.
        text: String,
    },
}

/// The most bytes an expression has.
pub const MAX_BYTES: usize = 1_024;

/// The most terms an expression has.
pub const MAX_TERMS: usize = 16;

impl FromStr for Expr {
    type Err = ExprError;

    fn from_str(text: &str) -> Result<Self, ExprError> {
        if text.len() > MAX_BYTES {
            return Err(ExprError::TooMuch { what: "bytes", most: MAX_BYTES });
        }
        let mut expr = Expr { kinds: Kinds::ALL, tests: Vec::new(), hosts: Vec::new() };
        let terms: Vec<&str> = text.split(',').map(str::trim).filter(|term| !term.is_empty()).collect();
        if terms.is_empty() {
            return Err(ExprError::Empty);
        }
        if terms.len() > MAX_TERMS {
            return Err(ExprError::TooMuch { what: "terms", most: MAX_TERMS });
        }
        for term in terms {
            expr.add(term)?;
        }
        if expr.kinds.is_empty() {
            return Err(ExprError::TwoKinds { text: text.to_owned() });
        }
        Ok(expr)
    }
}

impl Expr {
    /// Whether this object of that namespace in that state is one that is looked for. Says nothing of its host.
    pub fn matches(&self, state: &State, namespace: &Namespace, object: &AnyObject) -> bool {
        self.kinds.has(object.kind()) && self.tests.iter().all(|test| test.holds(state, namespace, object))
    }

    /// Whether objects of this host are looked for.
    pub fn wants_host(&self, host: &HostName) -> bool {
        self.hosts.iter().all(|test| {
            let is = host.name.starts_with(&test.begins) || host.id.to_string() == test.begins;
            is != test.differs
        })
    }

    /// The one host that is asked for by its whole id, or how the names of the hosts that are asked for begin.
    pub fn host_begins(&self) -> Option<&str> {
        self.hosts.iter().find(|test| !test.differs).map(|test| test.begins.as_str())
    }

    /// The conditions that hold either for an object's whole life or never, and the kinds: what no sample in a span fulfils
    /// no object that lived in it can have fulfilled.
    pub(super) fn for_life(&self) -> Expr {
        let fixed = |test: &Test| match test {
            Test::Number { field, .. } => field.is_fixed().then(|| test.clone()),
            Test::Key { differs, range, .. } => Some(Test::Key { differs: *differs, range: *range, or_dest: true }),
            Test::Text { .. } | Test::Orphan { .. } => None,
        };
        let tests = self.tests.iter().filter_map(fixed).collect();
        Expr { kinds: self.kinds, tests, hosts: self.hosts.clone() }
    }

    fn add(&mut self, term: &str) -> Result<(), ExprError> {
        let no_operator = || ExprError::NoOperator { word: term.to_owned() };
        let at = term.find(['=', '!', '<', '>']).ok_or_else(no_operator)?;
        let (name, rest) = term.split_at(at);
        let (op, value) = Op::read(rest).ok_or_else(no_operator)?;
        let (name, value) = (name.trim(), value.trim());
        let unknown = || ExprError::UnknownField { word: name.to_owned() };
        let (kind, field) = match name.split_once('.') {
            Some((kind, field)) => (Some(kind_of(kind).ok_or_else(unknown)?), field),
            None => (None, name),
        };
        if value.is_empty() {
            return Err(ExprError::NoValue { field: name.to_owned() });
        }
        self.kinds = self.kinds.both(kind.map_or(Kinds::ALL, Kinds::only));
        let term = Term { name, field, op, value };
        match field {
            "kind" => {
                let kinds = Kinds::only(kind_of(value).ok_or_else(|| term.wants("sem, shm or msg"))?);
                let kinds = if term.differs()? { kinds.others() } else { kinds };
                self.kinds = self.kinds.both(kinds);
            }
            "host" => {
                let begins = value.strip_suffix('*').unwrap_or(value).to_owned();
                self.hosts.push(HostTest { differs: term.differs()?, begins });
            }
            "key" => self.tests.push(Test::Key { differs: term.differs()?, range: term.key()?, or_dest: false }),
            "orphan" => self.tests.push(Test::Orphan { differs: term.differs()?, is: term.orphan()? }),
            "user" => self.tests.push(term.text(TextField::User)?),
            "comm" => self.tests.push(term.text(TextField::Comm)?),
            _ => {
                let known = Field::ALL.iter().find(|(_, name, _)| *name == field);
                let (field, name, kinds) = known.copied().ok_or_else(unknown)?;
                if let Some(kind) = kind.filter(|kind| !kinds.has(*kind)) {
                    return Err(ExprError::WrongKind { field: name, kind: kind.name() });
                }
                self.kinds = self.kinds.both(kinds);
                self.tests.push(term.number(field)?);
            }
        }
        Ok(())
    }
}

fn kind_of(word: &str) -> Option<Kind> {
    Kind::ALL.into_iter().find(|kind| kind.name() == word)
}

/// One term, taken apart.
struct Term<'t> {
    name: &'t str,
    field: &'t str,
    op: Op,
    value: &'t str,
}

impl Term<'_> {
    fn wants(&self, wants: &'static str) -> ExprError {
        ExprError::BadValue { field: self.name.to_owned(), value: self.value.to_owned(), wants }
    }

    /// Of a field that is the same or not: whether it must not be.
    fn differs(&self) -> Result<bool, ExprError> {
        match self.op {
            Op::Eq => Ok(false),
            Op::Ne => Ok(true),
            op => Err(ExprError::BadOperator { field: self.field.to_owned(), op: op.sign() }),
        }
    }

    fn key(&self) -> Result<(u32, u32), ExprError> {
        let wants = || self.wants("a key: 0x0d4d1234, 0x0d4d* for all that begin so, a decimal number, or private");
        if self.value == "private" {
            return Ok((0, 0));
        }
        let Some(digits) = self.value.strip_prefix("0x").or_else(|| self.value.strip_prefix("0X")) else {
            let number: i64 = self.value.parse().map_err(|_| wants())?;
            let signed = i32::try_from(number).ok().map(i32::cast_unsigned);
            let key = signed.or_else(|| u32::try_from(number).ok()).ok_or_else(wants)?;
            return Ok((key, key));
        };
        let (digits, is_prefix) = digits.strip_suffix('*').map_or((digits, false), |digits| (digits, true));
        let length = u32::try_from(digits.len()).ok().filter(|n| (1..=8).contains(n)).ok_or_else(wants)?;
        let is_hex = digits.bytes().all(|b| b.is_ascii_hexdigit());
        let number = u32::from_str_radix(digits, 16).ok().filter(|_| is_hex).ok_or_else(wants)?;
        if !is_prefix || length == 8 {
            return Ok((number, number));
        }
        let free = 4 * (8 - length);
        Ok((number << free, number << free | ((1 << free) - 1)))
    }

    fn orphan(&self) -> Result<OrphanIs, ExprError> {
        match self.value {
            "any" => Ok(OrphanIs::Any),
            "none" => Ok(OrphanIs::No),
            word => {
                let grade = Grade::ALL.iter().find(|(_, _, name)| *name == word).map(|(grade, ..)| *grade);
                grade.map(OrphanIs::Of).ok_or_else(|| self.wants("certain, likely, unattached, any or none"))
            }
        }
    }

    fn text(&self, field: TextField) -> Result<Test, ExprError> {
        let (text, is_prefix) = self.value.strip_suffix('*').map_or((self.value, false), |text| (text, true));
        let wants =
            || self.wants("a name of at most 256 bytes, with \\xHH for what is not printable, a comma or a star");
        let bytes = HostText::from_escaped(text).ok_or_else(wants)?.as_bytes().to_vec();
        Ok(Test::Text { field, differs: self.differs()?, text: TextPattern { bytes, is_prefix } })
    }

    fn number(&self, field: Field) -> Result<Test, ExprError> {
        let named = match field {
            Field::Uid => Some(TextField::User),
            Field::Cuid => Some(TextField::Cuser),
            Field::Gid => Some(TextField::Group),
            Field::Cgid => Some(TextField::Cgroup),
            _ => None,
        };
        if let Some(named) = named.filter(|_| !self.value.starts_with(|c: char| c.is_ascii_digit() || c == '-')) {
            return self.text(named);
        }
        let value = match field {
            Field::Id => self.value.parse::<i32>().ok().map(i128::from),
            Field::Uid | Field::Gid | Field::Cuid | Field::Cgid => self.value.parse::<u32>().ok().map(i128::from),
            Field::Perms => {
                self.differs()?;
                let is_octal = self.value.bytes().all(|b| (b'0'..=b'7').contains(&b));
                u32::from_str_radix(self.value, 8).ok().filter(|_| is_octal).map(i128::from)
            }
            Field::Size | Field::Cbytes => bytes(self.value).map(i128::from),
            Field::Namespace | Field::Nsems | Field::Nattch | Field::Qnum => {
                self.value.parse::<u64>().ok().map(i128::from)
            }
        };
        let wants = || {
            self.wants(match field {
                Field::Id => "an id: a whole number up to 2147483647",
                Field::Uid | Field::Cuid => "a user: a name, or a number from 0 to 4294967295",
                Field::Gid | Field::Cgid => "a group: a name, or a number from 0 to 4294967295",
                Field::Perms => "octal permissions, e.g. 600",
                Field::Size | Field::Cbytes => "a number of bytes, e.g. 4096, 64K, 16M, 1G or 2T",
                Field::Namespace => "the inode of an IPC namespace, e.g. 4026531839",
                Field::Nsems | Field::Nattch | Field::Qnum => "a whole number",
            })
        };
        Ok(Test::Number { field, op: self.op, value: value.ok_or_else(wants)? })
    }
}

/// `4096`, `64K`, `1G`, `1GiB`: powers of 1024.
fn bytes(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1_u64 << shift)
}

impl Test {
    fn holds(&self, state: &State, namespace: &Namespace, object: &AnyObject) -> bool {
        match self {
            Test::Number { field, op, value } => {
                field.of(namespace, object).is_some_and(|number| op.holds(number, *value))
            }
            Test::Key { differs, range: (first, last), or_dest } => {
                let is_dest = matches!(object, AnyObject::Shm(segment) if segment.perms.dest());
                (*or_dest && is_dest) || (*first..=*last).contains(&object.key().0.cast_unsigned()) != *differs
            }
            Test::Text { field, differs, text } => {
                let owner = object.owner();
                let name = match field {
                    TextField::User => state.users.get(&owner.uid),
                    TextField::Cuser => state.users.get(&owner.cuid),
                    TextField::Group => state.groups.get(&owner.gid),
                    TextField::Cgroup => state.groups.get(&owner.cgid),
                    TextField::Comm => comm_of(namespace, object),
                };
                name.is_some_and(|name| text.fits(name.as_bytes())) != *differs
            }
            Test::Orphan { differs, is } => {
                let grade = grade_of(namespace, object);
                let fits = match is {
                    OrphanIs::Any => grade.is_some(),
                    OrphanIs::No => grade.is_none(),
                    OrphanIs::Of(wanted) => grade == Some(*wanted),
                };
                fits != *differs
            }
        }
    }
}

impl TextPattern {
    fn fits(&self, name: &[u8]) -> bool {
        if self.is_prefix { name.starts_with(&self.bytes) } else { name == self.bytes }
    }
}

impl Op {
    const ALL: [(Op, &'static str); 6] =
        [(Op::Ne, "!="), (Op::Ge, ">="), (Op::Le, "<="), (Op::Eq, "="), (Op::Gt, ">"), (Op::Lt, "<")];

    /// The operator with which a text begins, the longest first, and what follows it.
    fn read(text: &str) -> Option<(Op, &str)> {
        Self::ALL.iter().find_map(|(op, sign)| text.strip_prefix(sign).map(|rest| (*op, rest)))
    }

    fn sign(self) -> &'static str {
        Self::ALL.iter().find(|(op, _)| *op == self).map_or("", |(_, sign)| sign)
    }

    /// Whether a number compares so with `value`.
    fn holds(self, number: i128, value: i128) -> bool {
        self.may_hold((number, number), value)
    }

    /// Whether any number from the first to the last one, both included, compares so with `value`.
    pub(super) fn may_hold(self, (first, last): (i128, i128), value: i128) -> bool {
        match self {
            Op::Eq => first <= value && value <= last,
            Op::Ne => first != value || last != value,
            Op::Gt => last > value,
            Op::Ge => last >= value,
            Op::Lt => first < value,
            Op::Le => first <= value,
        }
    }
}
