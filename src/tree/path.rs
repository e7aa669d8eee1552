//! What a path may look like, and its parts (`semantics.md` 3).
//!
//! Text only: whether a znode exists is not known here.

/// Whether `path` is valid as a whole: asked of every write but delete, for a create with its number appended.
pub fn check_full(path: &str) -> bool {
    path == "/" || check_components(path, false)
}

/// Whether `path` is valid once the number of a sequential create is appended to it, which may stand alone as the name.
pub fn check_sequential(path: &str) -> bool {
    check_components(path, true)
}

/// Starts with a slash; no component is empty, `.` or `..`, except that the last may be any of them if a number
/// follows; no character that the reference refuses.
fn check_components(path: &str, number_follows: bool) -> bool {
    let Some(below) = path.strip_prefix('/') else { return false };
    let mut components = below.split('/');
    let last = components.next_back();
    let last_fits = number_follows || last.is_some_and(is_component);
    last_fits && components.all(is_component) && path.chars().all(is_allowed)
}

fn is_component(component: &str) -> bool {
    !matches!(component, "" | "." | "..")
}

/// Control characters are refused, and so is what Java sees as surrogates (everything above U+FFFF), the private use
/// area and the specials, the replacement character among them.
fn is_allowed(character: char) -> bool {
    !matches!(
        character,
        '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..='\u{10ffff}'
    )
}

/// What a create is asked before its parent is looked up.
pub fn check_rough_create(path: &str) -> bool {
    path.contains('/') && !path.contains('\0')
}

/// Everything before the last slash: empty, which names the root, for a top-level znode. `None` without a slash.
#[inline]
pub fn parent(path: &str) -> Option<&str> {
    split(path).map(|(parent, _)| parent)
}

/// Everything behind the last slash.
#[inline]
pub fn name(path: &str) -> &str {
    split(path).map_or(path, |(_, name)| name)
}

/// The parent's path and the name.
#[inline]
pub fn split(path: &str) -> Option<(&str, &str)> {
    path.rsplit_once('/')
}

/// Whether `path` is one of the four znodes that every tree has and nobody deletes.
pub fn is_special(path: &str) -> bool {
    matches!(path, "" | "/" | "/zookeeper" | "/zookeeper/quota" | "/zookeeper/config")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_check_accepts_and_refuses_as_the_reference() {
        for valid in ["/", "/a", "/a/b", "/...", "/.x", "/x.", "/a/..b", "/ ", "/é/\u{ffef}", "/日本", "/a\u{d7ff}"]
        {
            assert!(check_full(valid), "{valid:?}");
        }
        for refused in [
            "",
            "a",
            "a/b",
            "/a/",
            "//",
            "//a",
            "/a//b",
            "/.",
            "/..",
            "/a/.",
            "/a/../b",
            "/./a",
            "/a\0b",
            "/\u{1}",
            "/\u{1f}",
            "/\u{7f}",
            "/\u{9f}",
            "/\u{e000}",
            "/\u{f8ff}",
            "/\u{fff0}",
            "/\u{fffd}",
            "/\u{ffff}",
            "/\u{10000}",
            "/😀",
            "/\u{10ffff}",
        ] {
            assert!(!check_full(refused), "{refused:?}");
        }
    }

    /// The number has digits and perhaps a minus sign, so one digit stands for all of them.
    #[test]
    fn sequential_check_is_the_full_check_with_a_number_appended() {
        for path in
            ["", "/", "/a", "/a/", "/a/.", "/a/..", "/.", "//", "/a//", "a", "/./", "/a\0", "/a/b-", "/é", "/😀"]
        {
            assert_eq!(check_sequential(path), check_full(&format!("{path}0000000007")), "{path:?}");
            assert_eq!(check_sequential(path), check_full(&format!("{path}-000000007")), "{path:?}");
        }
    }

    #[test]
    fn parts_of_a_path() {
        let parts = [("/a", "", "a"), ("/a/b", "/a", "b"), ("/", "", ""), ("/a/", "/a", ""), ("a/b", "a", "b")];
        for (path, above, last) in parts {
            assert_eq!((parent(path), name(path)), (Some(above), last), "{path:?}");
        }
        assert_eq!((parent("a"), name("a")), (None, "a"));
        assert_eq!(parent(""), None);
        assert!(["", "/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"].into_iter().all(is_special));
        assert!(!is_special("/zookeeper/quota/a") && !is_special("/a"));
        assert!(check_rough_create("a/b") && !check_rough_create("ab") && !check_rough_create("/a\0"));
    }
}
