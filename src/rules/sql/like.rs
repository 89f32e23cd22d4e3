//! `LIKE` and `ILIKE`: patterns cut at their `%` once, so that a search is one pass for each part.

use std::borrow::Cow;

use memchr::memmem::Finder;

#[derive(Debug)]
pub struct Like {
    /// What stands between the `%`: the first at the beginning, the last at the end, the others in this order between.
    parts: Vec<Part>,
    /// Compares without case.
    fold: bool,
}

#[derive(Debug)]
enum Part {
    Bytes(Box<Finder<'static>>),
    /// With `_` for any one character.
    Chars(Vec<Option<char>>),
}

/// One character in lower case, where that is one character.
fn lower(c: char) -> char {
    let mut mapped = c.to_lowercase();
    match (mapped.next(), mapped.next()) {
        (Some(one), None) => one,
        _ => c,
    }
}

impl Like {
    /// None: the escape is the pattern's last character.
    pub fn new(pattern: &str, escape: Option<char>, fold: bool) -> Option<Self> {
        let mut parts = Vec::new();
        let mut here: Vec<Option<char>> = Vec::new();
        let mut chars = pattern.chars();
        while let Some(c) = chars.next() {
            if Some(c) == escape {
                here.push(Some(chars.next()?));
            } else if c == '%' {
                parts.push(Part::new(std::mem::take(&mut here), fold));
            } else {
                here.push((c != '_').then_some(c));
            }
        }
        parts.push(Part::new(here, fold));
        Some(Self { parts, fold })
    }

    pub fn matches(&self, text: &str) -> bool {
        let text = if self.fold { Cow::Owned(text.chars().map(lower).collect()) } else { Cow::Borrowed(text) };
        let mut rest: &str = &text;
        let [first, middle @ .., last] = &self.parts[..] else {
            return self.parts[0].begins(rest).is_some_and(str::is_empty);
        };
        let Some(after) = first.begins(rest) else {
            return false;
        };
        rest = after;
        for part in middle {
            let Some(after) = part.first(rest) else {
                return false;
            };
            rest = after;
        }
        last.ends(rest)
    }
}

impl Part {
    fn new(chars: Vec<Option<char>>, fold: bool) -> Self {
        let chars: Vec<_> = chars.into_iter().map(|c| if fold { c.map(lower) } else { c }).collect();
        match chars.iter().copied().collect::<Option<String>>() {
            Some(bytes) => Part::Bytes(Box::new(Finder::new(bytes.as_bytes()).into_owned())),
            None => Part::Chars(chars),
        }
    }

    /// What follows it at the beginning of `text`.
    fn begins<'t>(&self, text: &'t str) -> Option<&'t str> {
        match self {
            Part::Bytes(finder) => {
                let found = finder.needle().is_empty() || text.as_bytes().starts_with(finder.needle());
                if found { text.get(finder.needle().len()..) } else { None }
            }
            Part::Chars(wanted) => {
                let mut chars = text.chars();
                let all = wanted.iter().all(|want| chars.next().is_some_and(|c| want.is_none_or(|w| w == c)));
                if all { Some(chars.as_str()) } else { None }
            }
        }
    }

    /// What follows the first place where it stands.
    fn first<'t>(&self, text: &'t str) -> Option<&'t str> {
        if let Part::Bytes(finder) = self {
            return text.get(finder.find(text.as_bytes())? + finder.needle().len()..);
        }
        let starts = text.char_indices().map(|(at, _)| at).chain([text.len()]);
        starts.into_iter().find_map(|at| self.begins(&text[at..]))
    }

    fn ends(&self, text: &str) -> bool {
        match self {
            Part::Bytes(finder) => finder.needle().is_empty() || text.as_bytes().ends_with(finder.needle()),
            Part::Chars(wanted) => {
                let mut chars = text.chars().rev();
                wanted.iter().rev().all(|want| chars.next().is_some_and(|c| want.is_none_or(|w| w == c)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn like(text: &str, pattern: &str) -> bool {
        Like::new(pattern, Some('\\'), false).unwrap().matches(text)
    }

    #[test]
    fn wild_cards_stand_for_any_text_and_for_one_character() {
        assert!(like("boiler-7", "boiler-%") && !like("Boiler-7", "boiler-%"));
        assert!(like("é", "_") && !like("é", "__") && like("", "%") && !like("", "_"));
        assert!(like("50%", r"50\%") && !like("500", r"50\%"));
        assert!(like("abcabd", "%ab_") && like("aXbYc", "a%b%c") && !like("ab", "ab%b"));
        assert!(Like::new("a%", None, true).unwrap().matches("ABC"));
        assert!(Like::new("a\\", Some('\\'), false).is_none());
    }

    /// By definition, one character at a time.
    fn obvious(text: &[char], pattern: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some(('%', rest)) => (0..=text.len()).any(|n| obvious(&text[n..], rest)),
            Some(('_', rest)) => !text.is_empty() && obvious(&text[1..], rest),
            Some((c, rest)) => text.first() == Some(c) && obvious(&text[1..], rest),
        }
    }

    proptest! {
        #[test]
        fn matching_agrees_with_the_definition(text in "[abé]{0,8}", pattern in "[abé%_]{0,6}") {
            let (t, p): (Vec<char>, Vec<char>) = (text.chars().collect(), pattern.chars().collect());
            prop_assert_eq!(like(&text, &pattern), obvious(&t, &p));
        }
    }
}
