//! Java's properties syntax, in which `zoo.cfg` is written.
//!
//! Bytes go in, `(line, key, value)` comes out, in the order of the file. ISO-8859-1 with `\uXXXX`, comments
//! after `#` or `!`, `=`, `:` or blanks between key and value, `\` for escapes and for going on in the next
//! line. Keys and values are trimmed on both ends, as ZooKeeper trims them. Knows no key by name.

/// One assignment of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    /// The line it begins on; the first line is 1.
    pub line: usize,
    /// Escapes resolved, blanks around it dropped.
    pub key: String,
    /// Escapes resolved, blanks around it dropped; empty when the key stands alone.
    pub value: String,
}

/// An escape `\u` that four hexadecimal digits do not follow: the only fault this syntax knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadEscape {
    /// The line of the assignment.
    pub line: usize,
    /// What follows the `\u`.
    pub found: String,
}

/// Reads a whole file.
pub fn parse(bytes: &[u8]) -> Result<Vec<Property>, BadEscape> {
    // In ISO-8859-1 every byte is the character of the same number.
    let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
    let mut properties = Vec::new();
    let mut lines = natural_lines(&text).enumerate();
    while let Some((index, natural)) = lines.next() {
        let mut logical = natural.trim_start_matches(BLANKS).to_owned();
        if logical.is_empty() || logical.starts_with(['#', '!']) {
            continue;
        }
        while ends_in_continuation(&logical) {
            logical.pop();
            match lines.next() {
                Some((_, next)) => logical.push_str(next.trim_start_matches(BLANKS)),
                None => break,
            }
        }
        if logical.is_empty() {
            continue;
        }
        let line = index + 1;
        let (key, value) = split(&logical);
        let unescape = |text| unescape(text).map_err(|found| BadEscape { line, found });
        properties.push(Property { line, key: trimmed(unescape(key)?), value: trimmed(unescape(value)?) });
    }
    Ok(properties)
}

const BLANKS: [char; 3] = [' ', '\t', '\x0c'];

/// Lines end in LF, CR or CRLF.
fn natural_lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        match text.find(['\n', '\r']) {
            Some(end) => {
                let ending = if text[end..].starts_with("\r\n") { 2 } else { 1 };
                rest = Some(&text[end + ending..]);
                Some(&text[..end])
            }
            None => {
                rest = None;
                Some(text)
            }
        }
    })
}

/// An odd number of backslashes at the end: the last one escapes the end of the line.
fn ends_in_continuation(line: &str) -> bool {
    line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

/// Splits at the first `=`, `:` or blank that no backslash escapes; blanks around it go with it.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let separator = |(index, character): (usize, char)| {
        let is_separator = !escaped && (character == '=' || character == ':' || BLANKS.contains(&character));
        escaped = !escaped && character == '\\';
        is_separator.then_some(index)
    };
    let Some(end) = line.char_indices().find_map(separator) else {
        return (line, "");
    };
    let rest = line[end..].trim_start_matches(BLANKS);
    let value = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (&line[..end], value.trim_start_matches(BLANKS))
}

fn unescape(text: &str) -> Result<String, String> {
    let mut units = Vec::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        let plain = match character {
            '\\' => match rest.next() {
                Some('u') => {
                    let digits: String = rest.by_ref().take(4).collect();
                    let is_hex = digits.len() == 4 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
                    match u16::from_str_radix(&digits, 16) {
                        // Not a `char` yet: two escapes may be the halves of one UTF-16 pair.
                        Ok(unit) if is_hex => units.push(unit),
                        _ => return Err(digits),
                    }
                    continue;
                }
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('f') => '\x0c',
                Some(other) => other,
                None => continue,
            },
            other => other,
        };
        units.extend_from_slice(plain.encode_utf16(&mut [0; 2]));
    }
    Ok(String::from_utf16_lossy(&units))
}

/// Java's `trim`: everything up to and including the blank is dropped from both ends.
fn trimmed(text: String) -> String {
    text.trim_matches(|character| character <= ' ').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(file: &str, expected: &[(usize, &str, &str)]) {
        let properties = parse(file.as_bytes()).unwrap();
        let found: Vec<_> = properties.iter().map(|one| (one.line, one.key.as_str(), one.value.as_str())).collect();
        assert_eq!(found, expected, "{file:?}");
    }

    #[test]
    fn key_and_value_are_separated_by_equals_colon_or_blank() {
        check("a=1", &[(1, "a", "1")]);
        check("a:1\n", &[(1, "a", "1")]);
        check("a 1\n", &[(1, "a", "1")]);
        check("a \t = \t 1  \n", &[(1, "a", "1")]);
        check("a==1\n", &[(1, "a", "=1")]);
        check("a b=1\n", &[(1, "a", "b=1")]);
        check("server.1=h:2:3;4\n", &[(1, "server.1", "h:2:3;4")]);
    }

    #[test]
    fn a_key_without_a_value_has_the_empty_string() {
        check("a\nb=\n", &[(1, "a", ""), (2, "b", "")]);
        check("=x\n", &[(1, "", "x")]);
    }

    #[test]
    fn comments_and_blank_lines_are_skipped_and_lines_are_counted() {
        check("# x\n ! y\n\n\t\n  a=1 # not a comment\n", &[(5, "a", "1 # not a comment")]);
    }

    #[test]
    fn a_backslash_continues_the_line() {
        check("a=1,\\\n   2,\\\r\n\t3\nb=4", &[(1, "a", "1,2,3"), (4, "b", "4")]);
        check("a=1\\\\\nb=2", &[(1, "a", "1\\"), (2, "b", "2")]);
        check("a=1\\", &[(1, "a", "1")]);
        check("\\\na=1", &[(1, "a", "1")]);
        check("# comment \\\na=1", &[(2, "a", "1")]);
        check("\\", &[]);
    }

    #[test]
    fn escapes_are_resolved() {
        check(r"a\=b\:c\ d=x\ty\qz", &[(1, "a=b:c d", "x\tyqz")]);
        check(r"a=\u00e9\uD83D\uDE00", &[(1, "a", "é😀")]);
        check(r"dir=C:\\data", &[(1, "dir", "C:\\data")]);
    }

    #[test]
    fn bytes_are_iso_8859_1() {
        assert_eq!(parse(b"a=\xe9").unwrap()[0].value, "é");
    }

    #[test]
    fn line_ends_of_every_kind_are_one_line_each() {
        check("a=1\r\nb=2\rc=3\nd=4", &[(1, "a", "1"), (2, "b", "2"), (3, "c", "3"), (4, "d", "4")]);
    }

    #[test]
    fn a_broken_unicode_escape_names_its_line() {
        assert_eq!(parse(b"a=1\nb=\\u12x4"), Err(BadEscape { line: 2, found: "12x4".into() }));
        assert_eq!(parse(b"b=\\u1"), Err(BadEscape { line: 1, found: "1".into() }));
        assert_eq!(parse(b"b=\\u+123"), Err(BadEscape { line: 1, found: "+123".into() }));
    }

    #[test]
    fn no_bytes_make_it_panic() {
        // A small generator is enough: every string of up to five of the characters that mean something.
        let alphabet = b"a=\\u0 \n\r#\xff";
        for length in 0..=5 {
            for mut number in 0..alphabet.len().pow(length) {
                let mut file = Vec::new();
                for _ in 0..length {
                    file.push(alphabet[number % alphabet.len()]);
                    number /= alphabet.len();
                }
                let _ = parse(&file);
            }
        }
    }
}
