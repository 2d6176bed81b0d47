//! Counting Rust and assembly: lines of code, and what of it is `unsafe`.
//!
//! # Invariants
//! - S1: comments, blank lines and what only tests compile are not counted.
//! - S2: what stands in a string or a character is never taken for code.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    /// Lines with Rust code.
    pub rust: usize,
    /// Lines with assembly, in files of their own.
    pub assembly: usize,
    /// Blocks `unsafe { … }`.
    pub unsafe_blocks: usize,
    /// Lines that such blocks touch.
    pub unsafe_lines: usize,
    /// Functions, implementations and foreign blocks that say `unsafe`.
    pub unsafe_items: usize,
}

impl Lines {
    /// As an object.
    pub fn json(self) -> Value {
        json!({
            "rust": self.rust,
            "assembly": self.assembly,
            "unsafe_blocks": self.unsafe_blocks,
            "unsafe_lines": self.unsafe_lines,
            "unsafe_items": self.unsafe_items,
        })
    }

    /// Adds another count.
    pub fn add(&mut self, other: Self) {
        self.rust += other.rust;
        self.assembly += other.assembly;
        self.unsafe_blocks += other.unsafe_blocks;
        self.unsafe_lines += other.unsafe_lines;
        self.unsafe_items += other.unsafe_items;
    }
}

/// Counts a crate's sources; files and folders named `tests` are not part of it.
///
/// # Errors
/// When a file cannot be read.
pub fn count(dir: &Path) -> Result<Lines> {
    let mut sum = Lines::default();
    let entries =
        std::fs::read_dir(dir).with_context(|| format!("{} cannot be read", dir.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.file_stem().is_some_and(|name| name == "tests") {
            continue;
        }
        if path.is_dir() {
            sum.add(count(&path)?);
            continue;
        }
        let kind = path.extension().and_then(|e| e.to_str());
        if let Some("rs" | "s") = kind {
            let text = std::fs::read_to_string(&path)
                .with_context(|| format!("{} cannot be read", path.display()))?;
            sum.add(if kind == Some("s") {
                assembly(&text)
            } else {
                rust(&text)
            });
        }
    }
    Ok(sum)
}

/// Counts assembly; `#` and `//` begin comments.
fn assembly(text: &str) -> Lines {
    let is_code = |line: &&str| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with('#') && !line.starts_with("//")
    };
    Lines {
        assembly: without_comments(text).lines().filter(is_code).count(),
        ..Lines::default()
    }
}

/// Counts Rust.
fn rust(text: &str) -> Lines {
    let code = without_tests(&without_comments(text));
    let mut lines = Lines {
        rust: code.lines().filter(|line| !line.trim().is_empty()).count(),
        ..Lines::default()
    };
    let mut unsafe_lines = std::collections::BTreeSet::new();
    for at in words(&code, "unsafe") {
        let rest = code[at + "unsafe".len()..].trim_start();
        if rest.starts_with('{') {
            lines.unsafe_blocks += 1;
            let open = at + code[at..].find('{').unwrap_or(0);
            let line_of = |at: usize| code[..at].matches('\n').count();
            unsafe_lines.extend(line_of(at)..=line_of(closing(&code, open)));
        } else if !rest.starts_with('(') {
            // `#[unsafe(…)]` is an attribute.
            lines.unsafe_items += 1;
        }
    }
    let is_code = |n: &usize| code.lines().nth(*n).is_some_and(|l| !l.trim().is_empty());
    lines.unsafe_lines = unsafe_lines.iter().filter(|n| is_code(n)).count();
    lines
}

/// The same text with comments blanked, and what strings and characters hold replaced by dots.
fn without_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut before = ' ';
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = raw_string(rest, before) {
            length
        } else if first == '"' {
            quoted(rest, '"')
        } else if first == '\'' {
            character(rest)
        } else {
            out.push(first);
            before = first;
            rest = &rest[first.len_utf8()..];
            continue;
        };
        let is_comment = first == '/';
        for part in rest[..length].chars() {
            out.push(match (part, is_comment) {
                ('\n', _) => '\n',
                (_, true) => ' ',
                (_, false) => '.',
            });
        }
        before = '.';
        rest = &rest[length..];
    }
    out
}

/// Length of the block comment that the text begins with; they nest.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// Length of the raw string that the text begins with, if it does.
fn raw_string(text: &str, before: char) -> Option<usize> {
    if before.is_alphanumeric() || before == '_' {
        return None;
    }
    let hashes = text
        .strip_prefix('r')
        .or_else(|| text.strip_prefix("br"))?
        .chars()
        .take_while(|c| *c == '#')
        .count();
    let open = text.find('"')?;
    let prefix = &text[..open];
    let is_raw = prefix.trim_start_matches('b') == format!("r{}", "#".repeat(hashes));
    if !is_raw {
        return None;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let close = text[open + 1..].find(&end)?;
    Some(open + 1 + close + end.len())
}

/// Length of the quotation that the text begins with; a backslash takes the next character with it.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == quote {
            return at + c.len_utf8();
        }
    }
    text.len()
}

/// Length of the character that the text begins with; a lifetime's tick is only itself.
fn character(text: &str) -> usize {
    let mut after = text.chars().skip(1);
    match (after.next(), after.next()) {
        (Some('\\'), _) => quoted(text, '\''),
        (Some(c), Some('\'')) => 2 + c.len_utf8(),
        _ => 1,
    }
}

/// Blanks each item under `#[cfg(test)]`.
fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut out = code.to_owned();
    let mut from = 0;
    while let Some(found) = out[from..].find(MARK) {
        let start = from + found;
        let rest = &out[start..];
        let brace = rest.find('{').unwrap_or(rest.len());
        let semicolon = rest.find(';').unwrap_or(rest.len());
        let end = if semicolon < brace {
            start + semicolon
        } else {
            closing(&out, start + brace)
        };
        let end = (end + 1).min(out.len());
        let blank: String = out[start..end]
            .chars()
            .map(|c| if c == '\n' { '\n' } else { ' ' })
            .collect();
        let after = start + blank.len();
        out.replace_range(start..end, &blank);
        from = after;
    }
    out
}

/// Where the brace closes that opens at `open`.
fn closing(code: &str, open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, c) in code[open..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth <= 1 => return open + at,
            '}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

/// Where a word stands by itself.
fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(move |at| {
            !is_part(code[..*at].chars().next_back())
                && !is_part(code[at + word.len()..].chars().next())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_blank_lines_and_tests_do_not_count() {
        let text = "//! Words.\n\n/* a /* b */ unsafe { } */\nfn f() {} // more\n\n#[cfg(test)]\nmod tests {\n    \
                    fn g() { unsafe { h() } }\n}\n#[cfg(test)]\nmod more;\nfn i() {}\n";
        let counted = rust(text);
        assert_eq!((counted.rust, counted.unsafe_blocks), (2, 0));
    }

    #[test]
    fn unsafe_blocks_are_told_from_items_and_attributes() {
        let text = "#[unsafe(no_mangle)]\nunsafe fn f() {\n    // unsafe { }\n    unsafe {\n        g();\n\n        h();\n    }\n    \
                    let unsafe_name = unsafe { i() };\n}\nunsafe impl Send for X {}\n";
        let counted = rust(text);
        assert_eq!(
            (
                counted.unsafe_blocks,
                counted.unsafe_items,
                counted.unsafe_lines
            ),
            (2, 2, 5)
        );
    }

    #[test]
    fn strings_and_characters_hold_no_code() {
        let text = "let a = \"// unsafe { \\\" \"; let b = '\"'; let c = r#\"unsafe { \"} \"#; let d = '{';\n\
                    fn f<'a>(x: &'a str) { unsafe { g(x) } }\nlet e = b\"}\"; let f = '\\'';\n";
        let counted = rust(text);
        assert_eq!((counted.rust, counted.unsafe_blocks), (3, 1));
    }

    #[test]
    fn assembly_is_counted_without_its_comments() {
        let counted = assembly("# words\nentry:\n    ret // back\n\n/* long\n words */\n    nop\n");
        assert_eq!(counted.assembly, 3);
    }
}
