//! Shell patterns over keys: `*`, `?`, `[a-z]`, `[!a-z]`; `*` crosses `/`, as in Python's `fnmatch`.

use std::fmt;

/// Which keys a scan returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// Every key.
    All,
    /// Keys that begin so.
    Prefix(String),
    /// Keys that a shell pattern matches.
    Glob(Glob),
}

impl Pattern {
    /// The longest prefix that every match has.
    #[must_use]
    pub fn prefix(&self) -> &str {
        match self {
            Self::All => "",
            Self::Prefix(prefix) => prefix,
            Self::Glob(glob) => glob.prefix(),
        }
    }

    /// Whether every key that begins with [`Pattern::prefix`] is matched.
    pub(crate) fn is_prefix(&self) -> bool {
        match self {
            Self::All | Self::Prefix(_) => true,
            Self::Glob(glob) => &glob.text[glob.literal..] == "*",
        }
    }

    /// Whether `key` is matched.
    #[must_use]
    pub fn matches(&self, key: &str) -> bool {
        match self {
            Self::All => true,
            Self::Prefix(prefix) => key.starts_with(prefix.as_str()),
            Self::Glob(glob) => glob.matches(key),
        }
    }
}

/// A shell pattern, and what of it is the same for every key.
///
/// ```
/// use synadb::{Glob, Pattern};
///
/// let pattern = Pattern::Glob(Glob::from("doc:[0-9]*"));
/// assert_eq!(pattern.prefix(), "doc:");
/// assert!(pattern.matches("doc:7/title") && !pattern.matches("doc:new"));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Glob {
    text: String,
    /// Bytes before the first character that is no literal.
    literal: usize,
    /// Where its last `]` stands; a `[` behind it is a literal.
    last_close: usize,
}

impl From<String> for Glob {
    fn from(text: String) -> Self {
        let literal = text.find(['*', '?', '[']).unwrap_or(text.len());
        let last_close = text.rfind(']').unwrap_or(0);
        Self { text, literal, last_close }
    }
}

impl From<&str> for Glob {
    fn from(text: &str) -> Self {
        Self::from(text.to_owned())
    }
}

impl fmt::Debug for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

impl Glob {
    /// The longest prefix that every match has.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.text[..self.literal]
    }

    /// Whether `key` is matched. Linear in the product of the lengths at worst: only the last `*` is
    /// ever tried again.
    #[must_use]
    pub fn matches(&self, key: &str) -> bool {
        let glob = &*self.text;
        if !key.starts_with(self.prefix()) {
            return false;
        }
        if &glob[self.literal..] == "*" {
            return true;
        }
        let (mut g, mut k) = (self.literal, self.literal);
        let mut retry: Option<(usize, usize)> = None;
        while let Some(c) = key[k..].chars().next() {
            let step = match glob[g..].chars().next() {
                Some('*') => {
                    retry = Some((g + 1, k));
                    g += 1;
                    continue;
                }
                Some('?') => Some(1),
                Some('[') if g < self.last_close => class_len(&glob[g..], c),
                Some(literal) => (literal == c).then_some(c.len_utf8()),
                None => None,
            };
            if let Some(step) = step {
                g += step;
                k += c.len_utf8();
            } else if let Some((after_star, from)) = retry {
                let from = from + key[from..].chars().next().map_or(1, char::len_utf8);
                retry = Some((after_star, from));
                (g, k) = (after_star, from);
            } else {
                return false;
            }
        }
        glob[g..].bytes().all(|c| c == b'*')
    }
}

/// Bytes of the class at the front of `glob` if it contains `c`; a `[` without end is literal.
fn class_len(glob: &str, c: char) -> Option<usize> {
    let is_negated = glob[1..].starts_with('!');
    let first = if is_negated { 2 } else { 1 };
    let mut behind_first = glob[first..].char_indices().skip(1);
    let Some((len, _)) = behind_first.find(|(_, c)| *c == ']') else {
        return (c == '[').then_some(1);
    };
    let (mut rest, mut is_found) = (glob[first..first + len].chars(), false);
    while let Some(low) = rest.next() {
        let mut ahead = rest.clone();
        let high = if ahead.next() == Some('-') { ahead.next() } else { None };
        if high.is_some() {
            rest = ahead;
        }
        is_found |= (low..=high.unwrap_or(low)).contains(&c);
    }
    (is_found != is_negated).then_some(first + len + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_fnmatch() {
        let cases = [
            ("*", "", true),
            ("a*", "abc", true),
            ("a*c", "abbc", true),
            ("a*c", "abcd", false),
            ("a/*", "a/b/c", true),
            ("?", "", false),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[", "[", true),
            ("[]]", "]", true),
            ("[!]]", "]", false),
            ("[a-]x", "-x", true),
            ("[--0]", ".", true),
            ("[c-a]", "b", false),
            ("[ab", "[ab", true),
            ("[a][b", "a[b", true),
            ("*a*b*c", "xxaxxbxxc", true),
            ("ab*", "ab", true),
            ("ab*", "a", false),
            ("ab", "abc", false),
            ("a**", "abc", true),
            ("\u{e9}?*\u{fc}", "\u{e9}\u{e0}xyz\u{fc}", true),
            ("\u{e9}?*\u{fc}", "\u{e9}\u{fc}", false),
            ("*[\u{e4}-\u{fc}]x", "\u{f6}\u{e4}x", true),
            ("*[!\u{e4}-\u{fc}]x", "\u{f6}\u{e4}x", false),
            ("[\u{e9}][\u{e9}]", "\u{e9}\u{e9}", true),
        ];
        for (glob, key, expected) in cases {
            let pattern = Pattern::Glob(glob.into());
            assert_eq!(pattern.matches(key), expected, "{glob} against {key}");
        }
    }

    #[test]
    fn many_stars_end_soon() {
        let pattern = Pattern::Glob(("*a".repeat(30) + "b").into());
        assert!(!pattern.matches(&"a".repeat(2000)));
        let open = Pattern::Glob(format!("*{}x", "[".repeat(1000)).into());
        assert!(!open.matches(&"[".repeat(2000)));
    }
}
