//! The messages of `messages.toml`.

use std::sync::LazyLock;

use serde::Deserialize;

use super::call::Call;
use super::errno::Errno;
use super::meaning::Means;
use super::pattern::{is_named, matches, plain};

/// Everything that is known of what programs say.
#[derive(Debug)]
pub struct Catalogue {
    products: Vec<Product>,
    messages: Vec<Message>,
}

/// A product that uses System V IPC.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Product {
    /// What people call it.
    pub name: String,
    /// Comms of its processes.
    pub comms: Vec<String>,
    /// Who owns its objects; empty = no user of its own.
    #[serde(default)]
    pub users: Vec<String>,
    /// Why its objects are not to be removed by hand; `None` = they may be, once they are certain orphans.
    pub keep: Option<String>,
    /// What to do in place of removing them.
    pub procedure: Option<String>,
    message: Vec<Written>,
}

/// A message as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    examples: Vec<String>,
    source: String,
    r#match: Vec<String>,
    call: Option<String>,
    errno: Option<String>,
    means: Option<Means>,
    know: Option<String>,
    remedy: Option<String>,
}

/// A message that a product is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    product: usize,
    patterns: Vec<String>,
    pub(super) examples: Vec<String>,
    pub(super) call: Option<Call>,
    pub(super) errno: Option<Errno>,
    pub(super) means: Option<Means>,
    pub(super) know: Option<String>,
    pub(super) remedy: Option<String>,
}

/// What is wrong with the file.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CatalogueError {
    /// It is not TOML of that form.
    #[error("the messages do not parse: {0}")]
    Form(String),
    /// A message without example, source or pattern, or with a call or an errno that is none.
    #[error("{product}: {what}")]
    Entry {
        /// Whose.
        product: String,
        /// What is wrong.
        what: String,
    },
}

#[derive(Deserialize)]
struct File {
    product: Vec<Product>,
}

/// The catalogue of this build.
pub fn catalogue() -> Result<&'static Catalogue, &'static CatalogueError> {
    static PARSED: LazyLock<Result<Catalogue, CatalogueError>> =
        LazyLock::new(|| Catalogue::parse(include_str!("messages.toml")));
    PARSED.as_ref()
}

impl Catalogue {
    /// Reads the file's text.
    pub fn parse(text: &str) -> Result<Self, CatalogueError> {
        let File { product: products } = toml::from_str(text).map_err(|e| CatalogueError::Form(e.to_string()))?;
        let mut messages = Vec::new();
        for (index, product) in products.iter().enumerate() {
            for written in &product.message {
                messages.push(message(index, written).map_err(|what| {
                    let product = product.name.clone();
                    CatalogueError::Entry { product, what }
                })?);
            }
        }
        Ok(Self { products, messages })
    }

    /// The message that stands for most letters of a line, with its product. The line is [`plain`].
    pub(super) fn find(&self, line: &str) -> Option<(&Product, &Message)> {
        let letters = |message: &Message| message.patterns.iter().filter_map(|p| matches(p, line)).max();
        let mut best: Option<(usize, &Message)> = None;
        for message in &self.messages {
            if let Some(n) = letters(message)
                && best.is_none_or(|(most, _)| n > most)
            {
                best = Some((n, message));
            }
        }
        let (_, message) = best?;
        Some((self.products.get(message.product)?, message))
    }

    /// The product whose objects are not to be removed by hand, of an owner with that comm and that user name.
    pub fn keeper(&self, comm: Option<&str>, user: Option<&str>) -> Option<&Product> {
        let mut kept = self.products.iter().filter(|p| p.keep.is_some());
        kept.find(|p| {
            comm.is_some_and(|comm| is_named(comm, &p.comms)) || user.is_some_and(|user| is_named(user, &p.users))
        })
    }

    /// All products.
    pub fn products(&self) -> &[Product] {
        &self.products
    }

    #[cfg(test)]
    pub(super) fn examples(&self) -> impl Iterator<Item = (&Product, &str)> {
        self.messages.iter().flat_map(|m| m.examples.iter().map(|e| (&self.products[m.product], e.as_str())))
    }
}

impl Product {
    /// Whether a process of that comm is one of its own.
    pub fn runs_as(&self, comm: &str) -> bool {
        is_named(comm, &self.comms)
    }
}

fn message(product: usize, written: &Written) -> Result<Message, String> {
    let Written { examples, source, r#match, call, errno, means, know, remedy } = written;
    let patterns: Vec<String> = r#match.iter().map(|p| plain(p)).collect();
    if examples.is_empty() || source.is_empty() || patterns.iter().all(|p| p.replace('*', "").trim().is_empty()) {
        return Err("a message needs an example, a source and a pattern".to_owned());
    }
    let call = match call {
        None => None,
        Some(name) => Some(Call::from_name(name).ok_or_else(|| format!("{name} is no call"))?),
    };
    let errno = match errno {
        None => None,
        Some(name) => Some(Errno::from_name(name).ok_or_else(|| format!("{name} is no errno"))?),
    };
    let (know, remedy) = (know.clone(), remedy.clone());
    Ok(Message { product, patterns, examples: examples.clone(), call, errno, means: *means, know, remedy })
}
