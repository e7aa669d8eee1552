//! What the compiler cannot check: the invariants of `ARCHITECTURE.md`, read off the source text.
//!
//! Every rule is a function from the files of the repository to what it found wrong. It is run on the repository,
//! and, in a test of its own, on planted violations that it must find and on near misses that it must not: a
//! rule that cannot fail guards nothing. The rules look at code only; comments and the insides of literals are blanked
//! first, and so is everything behind `#[cfg(test)]` where a rule is about shipped code.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// The only files in which our own code may say `unsafe`, and why each must.
const UNSAFE_ALLOWED: &[&str] = &[
    "wal/src/disk/ring.rs", // Buffers that the kernel writes to while we hold them.
    "snapshot/src/map.rs",  // Memory that is a file.
    "src/os.rs",            // System calls that no crate offers.
    "tests/alloc.rs",       // An allocator that counts: the trait is unsafe to implement.
];

/// Who may start threads. The load generator is a program of its own.
const THREADS_ALLOWED: &[&str] = &["src/server.rs", "perf/"];

/// Who may read the time. The load generator measures it.
const CLOCK_ALLOWED: &[&str] = &["src/clock.rs", "perf/"];

/// Files that may be longer than [`FILE_LINES`], each with the number of lines it may have.
const LONG_FILES: &[(&str, usize)] = &[
    ("proto/src/client.rs", 1600), // Every message of the client protocol, one below the other.
];

/// What still fits in a head.
const FILE_LINES: usize = 1000;

struct File {
    /// From the root, with `/`.
    path: String,
    text: String,
}

#[derive(Default)]
struct Repo {
    files: Vec<File>,
    /// From the root, with `/` between and none at the end.
    dirs: BTreeSet<String>,
}

impl Repo {
    fn read() -> Repo {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let ignored: Vec<String> = fs::read_to_string(root.join(".gitignore"))
            .expect(".gitignore says which directories are none of ours")
            .lines()
            .map(|line| line.trim().trim_matches('/').to_owned())
            .filter(|line| !line.is_empty())
            .collect();
        let mut repo = Repo::default();
        repo.walk(root, "", &ignored);
        repo
    }

    fn walk(&mut self, dir: &Path, prefix: &str, ignored: &[String]) {
        let mut entries: Vec<_> = fs::read_dir(dir).expect("the repository can be listed").flatten().collect();
        entries.sort_by_key(|entry| entry.file_name());
        for entry in entries {
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{prefix}{name}");
            let is_hidden = name.starts_with('.') && name != ".ci" && name != ".gitignore";
            if is_hidden || ignored.contains(&path) || ignored.contains(&name) {
                continue;
            }
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.walk(&entry.path(), &format!("{path}/"), ignored);
                self.dirs.insert(path);
            } else {
                // What is not text (a captured frame, a picture) has no rule that could read it.
                let text = fs::read_to_string(entry.path()).unwrap_or_default();
                self.files.push(File { path, text });
            }
        }
    }

    /// A repository of these files and the directories they lie in.
    fn planted(files: &[(&str, &str)]) -> Repo {
        let mut repo = Repo::default();
        for (path, text) in files {
            for (index, _) in path.match_indices('/') {
                repo.dirs.insert(path[..index].to_owned());
            }
            repo.files.push(File { path: (*path).to_owned(), text: (*text).to_owned() });
        }
        repo
    }

    fn rust(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.path.ends_with(".rs"))
    }

    fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    fn exists(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        self.dirs.contains(path) || self.file(path).is_some()
    }
}

impl File {
    /// Code that no user runs: tests, benchmarks, fuzz targets.
    fn is_test(&self) -> bool {
        let in_dir = |dir: &str| self.path.starts_with(&format!("{dir}/")) || self.path.contains(&format!("/{dir}/"));
        in_dir("tests") || in_dir("benches") || in_dir("fuzz") || self.path.ends_with("/tests.rs")
    }

    fn is_in(&self, places: &[&str]) -> bool {
        places.iter().any(|place| self.path == *place || (place.ends_with('/') && self.path.starts_with(place)))
    }

    fn tokens(&self) -> Vec<Token> {
        tokens(&self.text)
    }

    /// The tokens that are compiled into what users run.
    fn shipped(&self) -> Vec<Token> {
        if self.is_test() { Vec::new() } else { without_tests(self.tokens()) }
    }

    fn found(&self, line: usize, what: impl std::fmt::Display) -> String {
        format!("{}:{line}: {what}", self.path)
    }
}

// ---- a reader of Rust, just good enough ------------------------------------------------------------------

#[derive(Clone, Debug, PartialEq)]
struct Token {
    line: usize,
    /// A word, a number, or one punctuation character; `::`, `=>`, `==` and `!=` are one token. Literals of text are
    /// the token `""`.
    text: String,
}

impl Token {
    fn is(&self, text: &str) -> bool {
        self.text == text
    }
    fn is_word(&self) -> bool {
        self.text.starts_with(|first: char| first.is_alphabetic() || first == '_')
    }
    fn is_number(&self) -> bool {
        self.text.starts_with(|first: char| first.is_ascii_digit())
    }
}

fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let (mut tokens, mut at, mut line) = (Vec::new(), 0, 1);
    let starts = |at: usize, with: &str| with.chars().enumerate().all(|(i, c)| chars.get(at + i) == Some(&c));
    while at < chars.len() {
        let begin = at;
        let mut text = None;
        if starts(at, "//") {
            while at < chars.len() && chars[at] != '\n' {
                at += 1;
            }
        } else if starts(at, "/*") {
            let mut depth = 0;
            loop {
                if starts(at, "/*") {
                    (depth, at) = (depth + 1, at + 2);
                } else if starts(at, "*/") {
                    (depth, at) = (depth - 1, at + 2);
                } else {
                    at += 1;
                }
                if depth == 0 || chars.len() <= at {
                    break;
                }
            }
        } else if let Some(end) = literal_end(&chars, at) {
            at = end;
            text = Some("\"\"".to_owned());
        } else if chars[at].is_alphanumeric() || chars[at] == '_' {
            while at < chars.len() && (chars[at].is_alphanumeric() || chars[at] == '_') {
                at += 1;
            }
            text = Some(chars[begin..at].iter().collect());
        } else if chars[at].is_whitespace() {
            at += 1;
        } else {
            let pair = ["::", "=>", "==", "!="].into_iter().find(|pair| starts(at, pair));
            text = Some(pair.map_or_else(|| chars[at].to_string(), str::to_owned));
            at += pair.map_or(1, str::len);
        }
        at = at.min(chars.len());
        tokens.extend(text.map(|text| Token { line, text }));
        line += chars[begin..at].iter().filter(|c| **c == '\n').count();
    }
    tokens
}

/// Where the literal of text that begins at `at` ends, if one does.
fn literal_end(chars: &[char], at: usize) -> Option<usize> {
    let mut open = at;
    let prefix: String = chars[at..].iter().take_while(|c| matches!(c, 'b' | 'c' | 'r')).take(2).collect();
    open += prefix.len();
    let hashes = chars[open..].iter().take_while(|c| **c == '#').count();
    let raw = prefix.ends_with('r');
    if raw && chars.get(open + hashes) == Some(&'"') {
        let mut end = open + hashes + 1;
        while end < chars.len() {
            let closes =
                chars[end] == '"' && chars[end + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes;
            if closes {
                return Some(end + 1 + hashes);
            }
            end += 1;
        }
        return Some(end);
    }
    let quote = *chars.get(open).filter(|c| matches!(c, '"' | '\''))?;
    if quote == '\'' {
        // A lifetime has no closing quote right behind its first character.
        let is_char = chars.get(open + 1) == Some(&'\\') || chars.get(open + 2) == Some(&'\'');
        if !is_char {
            return None;
        }
    }
    let mut end = open + 1;
    while end < chars.len() && chars[end] != quote {
        end += if chars[end] == '\\' { 2 } else { 1 };
    }
    Some((end + 1).min(chars.len()))
}

/// Drops every item behind a `#[cfg(test)]` (alone or within `all(…)`), and every function behind `#[test]`.
fn without_tests(tokens: Vec<Token>) -> Vec<Token> {
    let (mut kept, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        let is_attribute = tokens[at].is("#") && tokens.get(at + 1).is_some_and(|token| token.is("["));
        if !is_attribute {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        let end = group_end(&tokens, at + 1);
        let words: Vec<&str> = tokens[at + 2..end - 1].iter().map(|token| token.text.as_str()).collect();
        let is_test = matches!(words.as_slice(), ["test"] | ["cfg", "(", "test", ")"])
            || (words.starts_with(&["cfg", "(", "all", "("]) && words.contains(&"test"));
        if !is_test {
            kept.extend_from_slice(&tokens[at..end]);
            at = end;
            continue;
        }
        at = end;
        // The item: further attributes, then everything up to its `;` or the end of its block.
        while at < tokens.len() {
            match tokens[at].text.as_str() {
                ";" => {
                    at += 1;
                    break;
                }
                "{" => {
                    at = group_end(&tokens, at);
                    break;
                }
                "(" | "[" => at = group_end(&tokens, at),
                _ => at += 1,
            }
        }
    }
    kept
}

/// The index behind the bracket that closes the one at `open`.
fn group_end(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().enumerate().skip(open) {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return index + 1;
                }
            }
            _ => {}
        }
    }
    tokens.len()
}

/// Every path that is written out, `use` trees taken apart: `use std::{fs, io::Read}` gives `std::fs` and
/// `std::io::Read`. Paths that begin with an imported name stay as they are written.
fn paths(tokens: &[Token]) -> Vec<(usize, Vec<String>)> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at < tokens.len() {
        if tokens[at].is_word() {
            at = path_from(tokens, at, &[], &mut found);
        } else {
            at += 1;
        }
    }
    found
}

fn path_from(tokens: &[Token], start: usize, prefix: &[String], found: &mut Vec<(usize, Vec<String>)>) -> usize {
    let mut path = prefix.to_vec();
    path.push(tokens[start].text.clone());
    let mut at = start + 1;
    while tokens.get(at).is_some_and(|token| token.is("::")) {
        match tokens.get(at + 1) {
            Some(word) if word.is_word() => {
                path.push(word.text.clone());
                at += 2;
            }
            Some(brace) if brace.is("{") => {
                let end = group_end(tokens, at + 1);
                let mut inner = at + 2;
                while inner < end {
                    let is_name = tokens[inner].is_word();
                    inner = if is_name { path_from(tokens, inner, &path, found) } else { inner + 1 };
                }
                return end;
            }
            _ => break,
        }
    }
    found.push((tokens[start].line, path));
    at
}

// ---- the rules ---------------------------------------------------------------------------------------------

type Rule = fn(&Repo) -> Vec<String>;

fn unsafe_stands_in_few_files(repo: &Repo) -> Vec<String> {
    let mut found = Vec::new();
    for file in repo.rust().filter(|file| !file.is_in(UNSAFE_ALLOWED)) {
        for token in file.tokens().iter().filter(|token| token.is("unsafe")) {
            found.push(file.found(token.line, "unsafe code; it may stand only in the files that tests/tidy.rs lists"));
        }
    }
    found
}

fn pure_crates_forbid_unsafe(repo: &Repo) -> Vec<String> {
    let crates = ["proto", "zab"].into_iter().filter(|name| repo.dirs.contains(*name));
    let lacks = |name: &&str| {
        let wanted = ["#", "!", "[", "forbid", "(", "unsafe_code", ")", "]"];
        let Some(file) = repo.file(&format!("{name}/src/lib.rs")) else { return true };
        let tokens = file.tokens();
        !tokens.windows(wanted.len()).any(|window| window.iter().zip(wanted).all(|(token, text)| token.is(text)))
    };
    crates.filter(lacks).map(|name| format!("{name}/src/lib.rs lacks #![forbid(unsafe_code)]")).collect()
}

/// Decisions know nothing of the world: time, bytes and randomness reach them as arguments.
fn pure_code_knows_no_world(repo: &Repo) -> Vec<String> {
    const PURE: &[&str] = &[
        "proto/src/",
        "zab/src/",
        "src/tree/",
        "src/prep/",
        "src/session.rs",
        "src/watch.rs",
        "src/ops/four_letter.rs",
    ];
    const WORLD: &[&[&str]] = &[
        &["std", "fs"],
        &["std", "io"],
        &["std", "env"],
        &["std", "process"],
        &["std", "thread"],
        &["std", "time"],
        &["std", "net", "TcpStream"],
        &["std", "net", "TcpListener"],
        &["std", "net", "UdpSocket"],
        &["std", "net", "ToSocketAddrs"],
        &["std", "os"],
        &["mio"],
        &["rustix"],
        &["libc"],
        &["core_affinity"],
        &["crate", "clock"],
        &["crate", "os"],
        &["crate", "net"],
        &["crate", "server"],
        &["crate", "store"],
    ];
    let mut found = Vec::new();
    for file in repo.rust().filter(|file| file.is_in(PURE)) {
        for (line, path) in paths(&file.shipped()) {
            let knows = |world: &&&[&str]| path.len() >= world.len() && path.iter().zip(**world).all(|(a, b)| a == b);
            let is_clock = path.iter().any(|part| part == "Instant" || part == "SystemTime");
            if WORLD.iter().any(|world| knows(&world)) || is_clock {
                found.push(file.found(line, format_args!("{} in code that is to stay pure", path.join("::"))));
            }
        }
    }
    found
}

fn only_the_server_starts_threads(repo: &Repo) -> Vec<String> {
    let mut found = Vec::new();
    for file in repo.rust().filter(|file| !file.is_in(THREADS_ALLOWED)) {
        for (line, path) in paths(&file.shipped()) {
            let starts = path
                .windows(2)
                .any(|pair| pair[0] == "thread" && ["spawn", "scope", "Builder"].contains(&pair[1].as_str()));
            if starts {
                found.push(file.found(line, "starts a thread; only src/server.rs does"));
            }
        }
    }
    found
}

fn only_the_clock_reads_time(repo: &Repo) -> Vec<String> {
    let mut found = Vec::new();
    for file in repo.rust().filter(|file| !file.is_in(CLOCK_ALLOWED)) {
        let tokens = file.shipped();
        for (line, path) in paths(&tokens) {
            let reads = path.windows(2).any(|pair| {
                (pair[0] == "Instant" || pair[0] == "SystemTime") && (pair[1] == "now" || pair[1] == "elapsed")
            });
            if reads || path.iter().any(|part| part == "clock_gettime") {
                found.push(file.found(line, "reads the time; only src/clock.rs does"));
            }
        }
        let elapsed =
            tokens.windows(3).filter(|window| window[0].is(".") && window[1].is("elapsed") && window[2].is("("));
        found.extend(
            elapsed.map(|window| file.found(window[1].line, "elapsed() reads the time; only src/clock.rs does")),
        );
    }
    found
}

/// A number is taken for an opcode where it is converted to one, named as one, compared with one or matched on one.
fn opcode_numbers_stand_in_one_table(repo: &Repo) -> Vec<String> {
    let mut found = Vec::new();
    let is_op = |token: &Token| ["op", "opcode"].contains(&token.text.to_lowercase().as_str());
    for file in repo.rust().filter(|file| file.path != "proto/src/op.rs") {
        let tokens = file.shipped();
        let number_at = |at: usize| match tokens.get(at) {
            Some(minus) if minus.is("-") => tokens.get(at + 1).is_some_and(Token::is_number),
            Some(token) => token.is_number(),
            None => false,
        };
        for (at, token) in tokens.iter().enumerate() {
            let follows = |texts: &[&str]| {
                texts.iter().enumerate().all(|(i, text)| tokens.get(at + 1 + i).is_some_and(|token| token.is(text)))
            };
            let converted = token.is("Op") && follows(&["::", "from_raw", "("]) && number_at(at + 4);
            let given = is_op(token) && follows(&[":"]) && number_at(at + 2);
            let compared = is_op(token) && (follows(&["=="]) || follows(&["!="])) && number_at(at + 2);
            let named = token.is("const") && tokens.get(at + 1).is_some_and(is_opcode_name) && {
                let equals = tokens[at..].iter().position(|token| token.is("=") || token.is(";"));
                equals.is_some_and(|equals| number_at(at + equals + 1))
            };
            if converted || given || compared || named {
                found.push(file.found(token.line, "an opcode as a number; opcodes are named by proto/src/op.rs"));
            }
            let is_match = token.is("match");
            let is_macro = token.is("matches") && tokens.get(at + 1).is_some_and(|token| token.is("!"));
            if !is_match && !is_macro {
                continue;
            }
            let (opens, ends_subject) = if is_match { ("{", "{") } else { ("(", ",") };
            let Some(open) = (at + 1..tokens.len()).find(|index| tokens[*index].is(opens)) else { continue };
            let Some(subject_end) = (at + 1..tokens.len()).find(|index| tokens[*index].is(ends_subject)) else {
                continue;
            };
            let subject = tokens[at + 1..subject_end].iter().rev().find(|token| token.is_word() && !token.is("raw"));
            if !subject.is_some_and(is_op) {
                continue;
            }
            let mut index = subject_end.max(open + 1);
            while index < group_end(&tokens, open) {
                // Only the patterns of this match: what stands in inner brackets is about something else.
                if ["{", "(", "["].iter().any(|text| tokens[index].is(text)) && open != index {
                    index = group_end(&tokens, index);
                    continue;
                }
                let begins = ["{", ",", "}", "|"].iter().any(|text| tokens[index - 1].is(text));
                if begins && number_at(index) {
                    found.push(file.found(tokens[index].line, "matches an opcode by its number"));
                }
                index += 1;
            }
        }
    }
    found
}

/// Names like `OP_CREATE` or `OPCODE_SYNC`.
fn is_opcode_name(token: &Token) -> bool {
    token.text.starts_with("OP_") || token.text.starts_with("OPCODE")
}

fn maxima_are_named_in_limits(repo: &Repo) -> Vec<String> {
    let mut found = Vec::new();
    let is_ruled = |file: &&File| file.path.starts_with("src/") || file.path.contains("/src/");
    let is_exempt = |file: &File| file.path.ends_with("/limits.rs") || file.path.starts_with("perf/");
    for file in repo.rust().filter(is_ruled).filter(|file| !is_exempt(file)) {
        let tokens = file.shipped();
        // For each open brace: whether it is the body of a trait or an implementation; constants there are a type's.
        let mut bodies: Vec<bool> = Vec::new();
        let mut header_begin = 0;
        for (at, token) in tokens.iter().enumerate() {
            match token.text.as_str() {
                "{" => {
                    let header = &tokens[header_begin..at];
                    let is_function = header.iter().any(|token| token.is("fn"));
                    bodies.push(!is_function && header.iter().any(|token| token.is("impl") || token.is("trait")));
                    header_begin = at + 1;
                }
                "}" => {
                    bodies.pop();
                    header_begin = at + 1;
                }
                ";" => header_begin = at + 1,
                "const" => {
                    let name = tokens.get(at + 1).map_or("", |token| token.text.as_str());
                    let is_bound = name.ends_with("_MAX") || name.ends_with("_MIN");
                    if is_bound && bodies.last() != Some(&true) {
                        found.push(
                            file.found(token.line, format_args!("{name} belongs into the limits.rs of its crate")),
                        );
                    }
                }
                _ => {}
            }
        }
    }
    found
}

fn the_map_names_what_exists(repo: &Repo) -> Vec<String> {
    const ENDINGS: &[&str] = &[".rs", ".md", ".toml", ".cfg", ".sh", ".yml"];
    let Some(map) = repo.file("ARCHITECTURE.md") else { return vec!["ARCHITECTURE.md is missing".into()] };
    let mut found = Vec::new();
    for (index, line) in map.text.lines().enumerate() {
        // Between backticks, every second piece of the line.
        for span in line.split('`').skip(1).step_by(2) {
            let is_plain = span.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c));
            let is_local = !span.starts_with(['/', '-']) && !span.starts_with("./");
            let looks_like_path = span.contains('/') || ENDINGS.iter().any(|ending| span.ends_with(ending));
            if is_plain && is_local && looks_like_path && !repo.exists(span) {
                found.push(map.found(index + 1, format_args!("{span} does not exist")));
            }
        }
    }
    found
}

fn the_map_names_every_directory(repo: &Repo) -> Vec<String> {
    let Some(map) = repo.file("ARCHITECTURE.md") else { return vec!["ARCHITECTURE.md is missing".into()] };
    let is_place = |dir: &&String| !dir.contains('/') || (dir.starts_with("src/") && dir.matches('/').count() == 1);
    let unnamed = |dir: &&String| !map.text.contains(&format!("`{dir}/`"));
    let message = |dir: &String| format!("ARCHITECTURE.md does not name the directory `{dir}/`");
    repo.dirs.iter().filter(is_place).filter(unnamed).map(message).collect()
}

/// Nothing unfinished is shipped, and nothing that stops the server without saying why. (`expect` says why.)
fn shipped_code_is_finished(repo: &Repo) -> Vec<String> {
    let mut found = Vec::new();
    for file in repo.rust() {
        let tokens = file.shipped();
        for window in tokens.windows(2) {
            if ["todo", "unimplemented", "dbg"].contains(&window[0].text.as_str()) && window[1].is("!") {
                found.push(file.found(window[0].line, format_args!("{}! in shipped code", window[0].text)));
            }
        }
        for window in tokens.windows(3) {
            if window[0].is(".") && window[1].is("unwrap") && window[2].is("(") {
                found
                    .push(file.found(window[1].line, "unwrap() in shipped code; say with expect() why it cannot fail"));
            }
        }
    }
    found
}

fn files_fit_in_a_head(repo: &Repo) -> Vec<String> {
    let mut found = Vec::new();
    for file in repo.rust() {
        let allowed = LONG_FILES.iter().find(|(path, _)| *path == file.path).map_or(FILE_LINES, |(_, lines)| *lines);
        let lines = file.text.lines().count();
        if allowed < lines {
            found.push(format!(
                "{}: {lines} lines; split it, or list it in tests/tidy.rs ({allowed} allowed)",
                file.path
            ));
        }
    }
    found
}

/// Wire types know nothing else of ours, log and agreement know only them.
fn packages_depend_downwards(repo: &Repo) -> Vec<String> {
    const ALLOWED: &[(&str, &[&str])] = &[
        ("proto", &[]),
        ("wal", &["zorilla-proto"]),
        ("zab", &["zorilla-proto"]),
        ("snapshot", &["zorilla-proto"]),
        ("perf", &["zorilla-proto", "zorilla-wal"]),
    ];
    let mut found = Vec::new();
    for (package, allowed) in ALLOWED {
        let Some(manifest) = repo.file(&format!("{package}/Cargo.toml")) else { continue };
        let mut in_dependencies = false;
        for (index, line) in manifest.text.lines().enumerate() {
            if let Some(section) = line.strip_prefix('[') {
                in_dependencies = section.ends_with("dependencies]") && !section.starts_with("dev-");
            }
            let name = line.split(['=', '.', ' ']).next().unwrap_or_default();
            let is_ours = name == "zorilla" || name.starts_with("zorilla-");
            if in_dependencies && is_ours && !allowed.contains(&name) {
                found.push(manifest.found(index + 1, format_args!("{package} must not depend on {name}")));
            }
        }
    }
    found
}

// ---- the rules on the repository ---------------------------------------------------------------------------

#[track_caller]
fn holds(rule: Rule) {
    let found = rule(&Repo::read());
    let list = found.iter().fold(String::new(), |mut list, one| {
        let _ = writeln!(list, "  {one}");
        list
    });
    assert!(found.is_empty(), "{} found:\n{list}", found.len());
}

/// `bad` must be found, once for each line that ends in `// here`; `good` must not.
#[track_caller]
fn tells_apart(rule: Rule, bad: &[(&str, &str)], good: &[(&str, &str)]) {
    for (path, text) in bad {
        let expected = text.lines().filter(|line| line.trim_end().ends_with("// here")).count();
        let found = rule(&Repo::planted(&[(path, text)]));
        assert_eq!(found.len(), expected, "{path}: {text}\nfound {found:?}");
        assert_ne!(expected, 0, "{path}: nothing is planted");
    }
    for (path, text) in good {
        let found = rule(&Repo::planted(&[(path, text)]));
        assert!(found.is_empty(), "{path}: {text}\nfound {found:?}");
    }
}

#[test]
fn the_repository_is_really_read() {
    let repo = Repo::read();
    for path in ["Cargo.toml", "ARCHITECTURE.md", "proto/src/op.rs", "wal/src/lib.rs", "src/main.rs", "tests/tidy.rs"] {
        assert!(repo.file(path).is_some_and(|file| !file.text.is_empty()), "{path} was not read");
    }
    assert!(!repo.exists("target"), "what is ignored was read");
}

#[test]
fn a_token_is_code_and_comments_and_literals_are_none() {
    let text = r####"
        // unsafe
        /* unsafe /* unsafe */ unsafe */
        let a = "unsafe \" unsafe"; let b = r#"unsafe " unsafe"#; let c = b"unsafe"; let d = '"';
        let e: &'static str = '\''; unsafe
    "####;
    let found: Vec<_> = tokens(text).into_iter().filter(|token| token.is("unsafe")).collect();
    assert_eq!(found, [Token { line: 5, text: "unsafe".into() }]);
}

#[test]
fn use_trees_are_taken_apart() {
    let found = paths(&tokens("use std::{fs, io::{self, Read}, net}; a::b(c);"));
    let found: Vec<_> = found.into_iter().map(|(_, path)| path.join("::")).collect();
    let expected = ["use", "std::fs", "std::io::self", "std::io::Read", "std::net", "a::b", "c"];
    assert_eq!(found, expected);
}

#[test]
fn unsafe_stands_only_where_it_is_allowed() {
    tells_apart(
        unsafe_stands_in_few_files,
        &[("src/tree/mod.rs", "unsafe { x() } // here"), ("perf/src/main.rs", "unsafe impl Send for X {} // here")],
        &[("src/os.rs", "unsafe { x() }"), ("src/a.rs", "#![deny(unsafe_code)] // unsafe\nlet x = \"unsafe\";")],
    );
    holds(unsafe_stands_in_few_files);
}

#[test]
fn proto_and_zab_forbid_unsafe() {
    let check = |text| pure_crates_forbid_unsafe(&Repo::planted(&[("proto/src/lib.rs", text)]));
    assert_eq!(check("#![deny(unsafe_code)]\n// #![forbid(unsafe_code)]").len(), 1);
    assert_eq!(check("//! Docs.\n#![forbid(unsafe_code)]").len(), 0);
    assert_eq!(pure_crates_forbid_unsafe(&Repo::planted(&[("zab/src/peer.rs", "")])).len(), 1);
    holds(pure_crates_forbid_unsafe);
}

#[test]
fn pure_code_knows_no_socket_file_thread_or_clock() {
    tells_apart(
        pure_code_knows_no_world,
        &[
            ("proto/src/client.rs", "use std::{fmt, fs::File}; // here"),
            ("src/tree/mod.rs", "fn f() { std::thread::yield_now(); // here\n}"),
            ("src/prep/mod.rs", "use crate::clock::Clock; // here"),
            ("src/session.rs", "fn f(now: Instant) {} // here"),
            ("src/watch.rs", "use mio::Token; // here\nuse std::time::Duration; // here"),
        ],
        &[
            ("src/watch.rs", "use std::collections::HashMap; // std::fs\n#[cfg(test)]\nmod tests { use std::fs; }"),
            ("src/server.rs", "use std::fs;"),
            ("proto/tests/golden.rs", "use std::fs;"),
        ],
    );
    holds(pure_code_knows_no_world);
}

#[test]
fn threads_are_started_in_one_file() {
    tells_apart(
        only_the_server_starts_threads,
        &[
            ("src/store.rs", "std::thread::spawn(f); // here"),
            ("wal/src/disk/blocking.rs", "use std::{thread::Builder}; // here"),
            ("src/worker/mod.rs", "thread::scope(|s| {}); // here"),
        ],
        &[
            ("src/server.rs", "thread::spawn(f);"),
            ("perf/src/main.rs", "thread::spawn(f);"),
            ("wal/tests/ring.rs", "thread::spawn(f);"),
            ("src/gate.rs", "#[cfg(test)]\nmod tests { fn f() { thread::spawn(g); } }\nfn h() { thread::current(); }"),
        ],
    );
    holds(only_the_server_starts_threads);
}

#[test]
fn time_is_read_in_one_file() {
    tells_apart(
        only_the_clock_reads_time,
        &[
            ("src/worker/mod.rs", "let now = Instant::now(); // here"),
            ("src/net/client.rs", "let now = std::time::SystemTime::now(); // here"),
            ("wal/src/group.rs", "let spent = start.elapsed(); // here"),
            ("wal/src/lib.rs", "rustix::time::clock_gettime(x); // here"),
        ],
        &[
            ("src/clock.rs", "Instant::now();"),
            ("perf/src/main.rs", "Instant::now();"),
            ("wal/tests/ring.rs", "Instant::now();"),
            ("src/worker/mod.rs", "fn turn(now: Now) {} // Instant::now()"),
        ],
    );
    holds(only_the_clock_reads_time);
}

#[test]
fn opcodes_are_numbers_in_one_file() {
    tells_apart(
        opcode_numbers_stand_in_one_table,
        &[
            ("src/worker/route.rs", "Op::from_raw(101) // here"),
            ("src/worker/route.rs", "RequestHeader { xid: 1, op: -11 } // here"),
            ("perf/src/main.rs", "if header.op == 4 {} // here"),
            ("src/prep/mod.rs", "const OP_CREATE: i32 = 1; // here"),
            (
                "src/replica/mod.rs",
                "match header.op {\n 1 => a(), // here\n -11 | // here\n 15 => b(), // here\n _ => 7 }",
            ),
            ("src/net/client.rs", "matches!(request.op, 1 | // here\n 15) // here"),
            ("src/replica/mod.rs", "match op.raw() {\n 1 => a(), // here\n _ => b() }"),
        ],
        &[
            ("proto/src/op.rs", "Op::from_raw(101)"),
            ("src/a.rs", "Op::from_raw(header.op)"),
            ("src/a.rs", "match op { Op::Create => 1, Op::Delete => 2 }"),
            ("src/a.rs", "match count { 1 => a(), _ => b() }"),
            ("src/a.rs", "match op { Op::Create => { matches!(flags, 2 | 3); } _ => f([1, 2]) }"),
            ("src/a.rs", "struct H { op: i32 }"),
            ("proto/tests/golden.rs", "RequestHeader { xid: 1, op: 999 }"),
        ],
    );
    holds(opcode_numbers_stand_in_one_table);
}

#[test]
fn maxima_are_declared_in_limits() {
    tells_apart(
        maxima_are_named_in_limits,
        &[
            ("src/net/client.rs", "const FRAME_BYTES_MAX: usize = 1; // here"),
            ("wal/src/group.rs", "pub(crate) const BATCH_MIN: u64 = 1; // here"),
            ("src/a.rs", "impl X { fn f() {\n const N_MAX: u8 = 1; // here\n} }"),
        ],
        &[
            ("src/limits.rs", "pub const FRAME_BYTES_MAX: usize = 1;"),
            ("proto/src/limits.rs", "pub const FRAME_BYTES_MAX: usize = 1;"),
            ("proto/src/jute.rs", "trait T { const BYTES_MIN: usize; } impl T for X { const BYTES_MIN: usize = 4; }"),
            ("src/a.rs", "const FRAME_BYTES: usize = 1; use crate::limits::FRAME_BYTES_MAX;"),
        ],
    );
    holds(maxima_are_named_in_limits);
}

#[test]
fn the_map_is_true() {
    let check = |map| the_map_names_what_exists(&Repo::planted(&[("ARCHITECTURE.md", map), ("src/os.rs", "")]));
    assert_eq!(check("See `src/gone.rs`, `docs/` and `gone.md`.").len(), 3);
    assert_eq!(check("See `src/os.rs`, `src/`, `Replica::handle`, `./test` and a/b.").len(), 0);
    assert_eq!(the_map_names_what_exists(&Repo::planted(&[("README.md", "")])).len(), 1);
    holds(the_map_names_what_exists);
}

#[test]
fn the_map_is_complete() {
    let files = |map| [("ARCHITECTURE.md", map), ("src/net/client.rs", ""), ("docs/a/b.md", "")];
    assert_eq!(the_map_names_every_directory(&Repo::planted(&files("`src/`"))).len(), 2);
    assert_eq!(the_map_names_every_directory(&Repo::planted(&files("`src/`, `src/net/`, `docs/`"))).len(), 0);
    holds(the_map_names_every_directory);
}

#[test]
fn nothing_unfinished_is_shipped() {
    tells_apart(
        shipped_code_is_finished,
        &[
            ("src/a.rs", "todo!() // here\nunimplemented!(\"x\") // here\ndbg!(x) // here"),
            ("wal/src/a.rs", "file.sync_all().unwrap(); // here"),
        ],
        &[
            ("src/a.rs", "x.expect(\"just checked\"); y.unwrap_or(0); // todo!()\n#[test]\nfn t() { x.unwrap(); }"),
            ("tests/wire.rs", "x.unwrap();"),
            ("src/config/tests.rs", "x.unwrap();"),
        ],
    );
    holds(shipped_code_is_finished);
}

#[test]
fn no_file_is_too_long() {
    let check = |lines| files_fit_in_a_head(&Repo::planted(&[("src/a.rs", &"x\n".repeat(lines))])).len();
    assert_eq!((check(FILE_LINES), check(FILE_LINES + 1)), (0, 1));
    holds(files_fit_in_a_head);
}

#[test]
fn dependencies_point_one_way() {
    let check = |path, text| packages_depend_downwards(&Repo::planted(&[(path, text)])).len();
    assert_eq!(check("proto/Cargo.toml", "[dependencies]\nzorilla-wal.workspace = true\nbytes = \"1\""), 1);
    assert_eq!(check("wal/Cargo.toml", "[dependencies]\nzorilla = { path = \"..\" }"), 1);
    assert_eq!(check("wal/Cargo.toml", "[dependencies]\nzorilla-proto.workspace = true\n"), 0);
    assert_eq!(check("proto/Cargo.toml", "name = \"zorilla-proto\"\n[dev-dependencies]\nzorilla-wal = \"1\"\n"), 0);
    holds(packages_depend_downwards);
}
