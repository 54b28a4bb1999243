//! `.dockerignore`: the paths that a build context leaves out, as Docker's own builder decides.
//!
//! Sources: Docker's "Dockerfile reference, .dockerignore file", and the archives that `docker build` 28.2 sends for 47
//! written and 200 generated files (`dockerignore.recorded`).

use std::path::Path;

use regex::Regex;

/// The exclusion rules: patterns apply to paths from the folder's top, `*` and `?` stop at a slash, `**` does not, `!`
/// re-includes, and the last pattern that matches a path, or a folder above it, decides.
#[derive(Debug, Default)]
pub struct Ignore {
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    matcher: Regex,
    takes_back: bool,
}

impl Ignore {
    /// Parses the patterns of a `.dockerignore`.
    ///
    /// # Errors
    /// The line with an invalid pattern.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut rules = Vec::new();
        for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            if line.starts_with('#') {
                continue;
            }
            let wrong = |cause: &str| format!("line {} of .dockerignore: '{line}' {cause}", number + 1);
            let line = line.trim();
            let (takes_back, pattern) = match line.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, line),
            };
            if takes_back && pattern.is_empty() {
                return Err(wrong("re-includes nothing"));
            }
            let mut clean: Vec<&str> = Vec::new();
            for part in pattern.split('/') {
                match part {
                    "" | "." => {}
                    ".." if clean.last().is_some_and(|above| *above != "..") => drop(clean.pop()),
                    // A pattern cannot match anything above the folder.
                    _ => clean.push(part),
                }
            }
            if clean.is_empty() {
                continue;
            }
            let expression = expression(&clean.join("/")).ok_or_else(|| wrong("is no valid pattern"))?;
            let matcher = Regex::new(&expression).map_err(|_| wrong("is no valid pattern"))?;
            rules.push(Rule { matcher, takes_back });
        }
        Ok(Self { rules })
    }

    /// Returns whether a path, relative to the folder, is excluded.
    pub fn leaves_out(&self, path: &Path) -> bool {
        let mut out = false;
        for rule in &self.rules {
            let matches = path.ancestors().any(|path| {
                let path = path.to_string_lossy();
                !path.is_empty() && rule.matcher.is_match(&path)
            });
            if matches {
                out = !rule.takes_back;
            }
        }
        out
    }

    /// Returns whether a rule re-includes paths.
    pub fn takes_back(&self) -> bool {
        self.rules.iter().any(|rule| rule.takes_back)
    }
}

/// Translates a pattern into a regular expression for whole paths; none for an unfinished class or escape.
fn expression(pattern: &str) -> Option<String> {
    // Docker compares the end of a path with a pattern that has nothing special behind its first two stars: `**foo`
    // matches `barfoo`, and `**foo.txt` does not match `barfoo.txt`.
    let special = |c: char| "*?[]\\.+()|{}$".contains(c);
    if let Some(end) =
        pattern.strip_prefix("**").filter(|end| !end.is_empty() && !end.starts_with('/') && !end.contains(special))
    {
        return Some(format!("(?s)^.*{}$", regex::escape(end)));
    }
    let mut out = String::from("(?s)^");
    let mut rest = pattern.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '*' if rest.next_if_eq(&'*').is_some() => {
                // Any number of folders, none too.
                rest.next_if_eq(&'/');
                out.push_str(if rest.peek().is_none() { ".*" } else { "(.*/)?" });
            }
            '*' => out.push_str("[^/]*"),
            '?' => out.push_str("[^/]"),
            '\\' => out.push_str(&regex::escape(&rest.next()?.to_string())),
            '[' => class(&mut rest, &mut out)?,
            c => out.push_str(&regex::escape(&c.to_string())),
        }
    }
    out.push('$');
    Some(out)
}

/// Translates a class such as `[a-z]` or `[^0]`. `!` has no meaning in it, and a slash is never in it.
fn class(rest: &mut std::iter::Peekable<std::str::Chars<'_>>, out: &mut String) -> Option<()> {
    let negated = rest.next_if_eq(&'^').is_some();
    let member = |rest: &mut std::iter::Peekable<std::str::Chars<'_>>| match rest.next()? {
        '\\' => rest.next(),
        // Both need an escape.
        '-' | ']' => None,
        c => Some(c),
    };
    out.push_str(if negated { "[^" } else { "[" });
    let mut empty = true;
    while empty || rest.peek() != Some(&']') {
        let low = member(rest)?;
        let high = if rest.next_if_eq(&'-').is_some() { member(rest)? } else { low };
        if high < low {
            return None;
        }
        out.push_str(&format!("\\x{{{:x}}}-\\x{{{:x}}}", u32::from(low), u32::from(high)));
        empty = false;
    }
    rest.next();
    out.push(']');
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(patterns: &str, out: &[&str], kept: &[&str]) {
        let ignore = Ignore::parse(patterns).unwrap();
        for path in out {
            assert!(ignore.leaves_out(Path::new(path)), "{patterns:?} should leave {path} out");
        }
        for path in kept {
            assert!(!ignore.leaves_out(Path::new(path)), "{patterns:?} should keep {path}");
        }
    }

    #[test]
    fn patterns_mean_what_docker_documents() {
        check("# a comment\n\n*/temp*\n", &["sub/temp", "sub/temporary.txt"], &["temp", "sub/deep/temp"]);
        check("*/*/temp*", &["a/b/temporary"], &["a/temp"]);
        check("temp?", &["tempa", "tempb/x"], &["temp", "tempab"]);
        check("**/*.go", &["a.go", "x/y/b.go"], &["a.gox"]);
        check("node_modules", &["node_modules", "node_modules/x/y"], &["sub/node_modules"]);
        check("/dist/\n", &["dist", "dist/a"], &["sub/dist"]);
        check("*.md\n!README.md", &["a.md"], &["README.md", "sub/a.md"]);
        check("*.md\n!README*.md\nREADME-secret.md", &["README-secret.md"], &["README.md"]);
        check("secret\n!secret/public", &["secret/x"], &["secret/public/a"]);
        check("a{b}\n./c/../d\n../e", &["a{b}", "d"], &["ab", "c", "e"]);
    }

    #[test]
    fn a_bad_pattern_is_named_with_its_line() {
        assert!(Ignore::parse("fine\n[z").unwrap_err().contains("line 2"));
    }

    #[test]
    fn an_exclamation_mark_in_a_class_is_a_character() {
        check("[!a]*", &["!x", "abc"], &["b"]);
        check("[^a]*", &["b", "!"], &["abc"]);
        check("[a-c]x", &["bx"], &["dx", "-x"]);
        check("[\\]]", &["]"], &["\\"]);
    }

    #[test]
    fn two_stars_need_a_slash_before_the_rest() {
        check("s**b", &["sb", "s/x/b"], &["sub"]);
        check("a/**", &["a/b", "a/b/c"], &["ab"]);
        check("**foo", &["barfoo", "x/foo/y"], &["foobar"]);
        check("**foo.x", &["foo.x", "a/foo.x"], &["barfoo.x"]);
        check("**", &["a", "a/b"], &[]);
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in ["!", "[", "[a", "[]", "a\\", "[z-a]", "[-a]"] {
            assert!(Ignore::parse(text).unwrap_err().starts_with("line 1 of .dockerignore"), "{text}");
        }
    }

    /// The recorded files are names below a folder, and for each `.dockerignore` the indexes of the files that the
    /// archive of `docker build` has; null if it refuses the `.dockerignore`.
    #[test]
    fn dockerignore_is_read_as_docker_reads_it() {
        #[derive(serde::Deserialize)]
        struct Recorded {
            files: Vec<String>,
            cases: Vec<(String, Option<Vec<usize>>)>,
        }
        let recorded: Recorded = serde_json::from_str(include_str!("dockerignore.recorded")).unwrap();
        assert!(recorded.cases.len() > 240);
        let mut wrong = Vec::new();
        for (text, kept) in recorded.cases {
            let ignore = Ignore::parse(&text).ok();
            let ours = ignore.map(|ignore| {
                let files = recorded.files.iter().enumerate();
                // The builder needs the Dockerfile, so it is always sent.
                let kept = files.filter(|(_, file)| *file == "Dockerfile" || !ignore.leaves_out(Path::new(file)));
                kept.map(|(index, _)| index).collect::<Vec<_>>()
            });
            if ours != kept {
                let name = |indexes: &Option<Vec<usize>>, not: &Option<Vec<usize>>| -> Vec<String> {
                    let not = not.clone().unwrap_or_default();
                    let only = indexes.iter().flatten().filter(|index| !not.contains(index));
                    only.map(|index| recorded.files[*index].clone()).collect()
                };
                wrong.push((text, name(&kept, &ours), name(&ours, &kept)));
            }
        }
        // Docker stops at a folder that is left out although a pattern re-includes a part of it, and takes `/!bang/` for
        // `!bang`. Wharf does what the file says.
        let known = ["*\n!foo/**/etc\n", "x/a*\n!./**/.*/bu/node_modules\n/!bang/\n"];
        wrong.retain(|(text, ..)| !known.contains(&text.as_str()));
        assert!(wrong.is_empty(), "patterns, only docker keeps, only Wharf keeps: {wrong:#?}");
    }
}
