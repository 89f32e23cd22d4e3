//! Who a client is, and what it may do.
//!
//! A client's name is its certificate's (see [`crate::certificate::Certificate::name`]), which the TLS handshake has
//! verified against `client_ca`; without one it has no name, and only what `*` may do is allowed. Where the config has no
//! `allow` at all, everything is. A refused request is answered with Fluvio's own `PermissionDenied`, counted, and shown.
//!
//! Who may produce to a topic and not consume it still sees the headers of its batches, never a record: a node that
//! forwards finds there, by its own markers, where it has to go on.

use std::fmt;
use std::net::IpAddr;

use crate::config::model::Allow;
use crate::topic::wildcard;

/// What of a peer's words is shown.
const SHOWN: usize = 64;

/// What a request wants to do with a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    Produce,
    Consume,
    Make,
    Delete,
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Produce => "produce to",
            Self::Consume => "consume",
            Self::Make => "make",
            Self::Delete => "delete",
        })
    }
}

/// The other end of a connection.
pub struct Client {
    from: IpAddr,
    name: Option<String>,
    /// The tables that name it; None: there are no tables.
    rights: Option<Vec<Allow>>,
}

impl Client {
    pub fn new(from: IpAddr, name: Option<String>, allow: &[Allow]) -> Self {
        let is_named = |who: &String| who == "*" || Some(who) == name.as_ref();
        let rights =
            (!allow.is_empty()).then(|| allow.iter().filter(|a| a.who.iter().any(is_named)).cloned().collect());
        Self { from, name, rights }
    }

    pub fn may(&self, deed: Deed, topic: &str) -> bool {
        let Some(rights) = &self.rights else { return true };
        let has = |patterns: &[String]| patterns.iter().any(|pattern| wildcard(pattern, topic));
        rights.iter().any(|allow| match deed {
            Deed::Produce => has(&allow.produce),
            Deed::Consume => has(&allow.consume),
            Deed::Make | Deed::Delete => allow.admin && (has(&allow.produce) || has(&allow.consume)),
        })
    }

    /// Whether it is told of the topic at all.
    pub fn sees(&self, topic: &str) -> bool {
        self.may(Deed::Produce, topic) || self.may(Deed::Consume, topic)
    }
}

/// `press-7 (10.0.0.7)`
impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{} ({})", shown(name), self.from),
            None => write!(f, "{}", self.from),
        }
    }
}

/// A peer's words as they can stand in a line of the log.
pub fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN).map(|c| if c.is_control() { '?' } else { c }).collect();
    if shown.len() < text.len() && text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allow(who: &str, produce: &[&str], consume: &[&str], admin: bool) -> Allow {
        let list = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        Allow { who: vec![who.to_owned()], produce: list(produce), consume: list(consume), admin }
    }

    fn client(name: Option<&str>, allow: &[Allow]) -> Client {
        Client::new(IpAddr::from([10, 0, 0, 7]), name.map(str::to_owned), allow)
    }

    #[test]
    fn without_tables_everyone_may_do_everything() {
        let anyone = client(None, &[]);
        for deed in [Deed::Produce, Deed::Consume, Deed::Make, Deed::Delete] {
            assert!(anyone.may(deed, "wx"));
        }
    }

    #[test]
    fn a_client_has_the_rights_of_all_tables_that_name_it() {
        let tables = [
            allow("press-7", &["press-*"], &[], false),
            allow("press-7", &[], &["plan"], true),
            allow("*", &[], &["news"], false),
            allow("other", &["*"], &["*"], true),
        ];
        let press = client(Some("press-7"), &tables);
        assert!(press.may(Deed::Produce, "press-a") && !press.may(Deed::Consume, "press-a"));
        assert!(press.may(Deed::Consume, "plan") && press.may(Deed::Consume, "news"));
        // The right to make topics goes as far as the topics of its own table.
        assert!(press.may(Deed::Make, "plan") && press.may(Deed::Delete, "plan") && !press.may(Deed::Make, "press-a"));
        assert!(press.sees("press-a") && press.sees("news") && !press.sees("wx"));
        let nobody = client(None, &tables);
        assert!(nobody.may(Deed::Consume, "news") && !nobody.sees("plan") && !nobody.may(Deed::Make, "news"));
    }

    #[test]
    fn a_client_whose_name_is_a_star_is_not_everyone() {
        let tables = [allow("press-7", &["*"], &["*"], true)];
        assert!(!client(Some("*"), &tables).sees("wx"));
    }

    #[test]
    fn a_star_has_the_topics_of_nodes_as_well() {
        assert!(client(None, &[allow("*", &["*"], &[], false)]).may(Deed::Produce, "headwater-status"));
    }

    #[test]
    fn a_peers_words_stay_in_their_line() {
        assert_eq!(shown("a\nb\u{1b}[31m"), "a?b?[31m");
        assert_eq!(shown(&"ü".repeat(70)).chars().count(), SHOWN + 1);
        assert_eq!(client(Some("x\r"), &[]).to_string(), "x? (10.0.0.7)");
    }
}
