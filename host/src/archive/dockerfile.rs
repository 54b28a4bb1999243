//! Finds the images that a Dockerfile reads from, in any instruction.
//!
//! Reference: <https://docs.docker.com/reference/dockerfile/>. It is not a builder, it only finds names. It may
//! recognize more instructions than a builder would, but never fewer.

use std::collections::BTreeMap;

/// Finds the images that a Dockerfile names in `FROM`, `COPY --from`, `ADD --from` and `RUN --mount=from=`, except
/// its own stages. `args` are the build arguments; others have their defaults.
///
/// # Errors
/// A name with a variable that cannot be resolved.
pub fn images(text: &str, args: &BTreeMap<String, String>) -> Result<Vec<String>, String> {
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    let (mut stages, mut found) = (Vec::<String>::new(), Vec::<String>::new());
    for line in instructions(text) {
        let mut words = line.split_whitespace();
        let Some(instruction) = words.next().map(str::to_ascii_lowercase) else { continue };
        let words: Vec<&str> = words.collect();
        let (mut names, before) = (Vec::new(), stages.len());
        match instruction.as_str() {
            "arg" => {
                for word in &words {
                    let (name, default) =
                        word.split_once('=').map_or((*word, None), |(name, value)| (name, Some(value)));
                    let value =
                        args.get(name).cloned().or_else(|| default.map(|value| filled(&unquoted(value), &known)));
                    if let Some(value) = value {
                        known.insert(name.to_owned(), value);
                    }
                }
            }
            "env" => {
                for word in &words {
                    if let Some((name, value)) = word.split_once('=') {
                        known.insert(name.to_owned(), filled(&unquoted(value), &known));
                    }
                }
            }
            "from" => {
                let mut rest = words.iter().filter(|word| !word.starts_with("--"));
                names.extend(rest.next().map(|name| filled(&unquoted(name), &known)));
                let stage = rest.next().filter(|word| word.eq_ignore_ascii_case("as")).and(rest.next());
                stages.extend(stage.map(|name| name.to_lowercase()));
            }
            "copy" | "add" | "run" | "onbuild" => {
                names.extend(froms(&words).map(|name| filled(&unquoted(name), &known)))
            }
            _ => {}
        }
        for name in names {
            if name.contains('$') {
                return Err(format!("cannot determine the image of '{line}': '{name}' contains a variable"));
            }
            // A stage reads from earlier stages, and not from itself.
            let earlier = stages.get(..before).unwrap_or_default();
            let own = earlier.contains(&name.to_lowercase()) || name.parse::<usize>().is_ok() || name == "scratch";
            if !name.is_empty() && !own && !found.contains(&name) {
                found.push(name);
            }
        }
    }
    Ok(found)
}

/// Returns the values of `--from=` and of `from=` in `--mount=`.
fn froms<'a>(words: &'a [&'a str]) -> impl Iterator<Item = &'a str> {
    words.iter().flat_map(|word| {
        let from = word.strip_prefix("--from=");
        let mount = word.strip_prefix("--mount=").unwrap_or_default();
        let fields = mount.split(',').filter_map(|field| unquoted_start(field).strip_prefix("from="));
        from.into_iter().chain(fields)
    })
}

/// Returns whole instructions, without comments, each on one line.
fn instructions(text: &str) -> Vec<String> {
    let text = text.trim_start_matches('\u{feff}');
    let mut escape = '\\';
    // Directives come first: `# escape=` and a backtick.
    for line in text.lines() {
        let Some(comment) = line.trim().strip_prefix('#') else { break };
        let Some((name, value)) = comment.split_once('=') else { break };
        if name.trim().eq_ignore_ascii_case("escape") {
            escape = value.trim().chars().next().unwrap_or(escape);
        }
    }
    let (mut whole, mut all) = (String::new(), Vec::new());
    for line in text.lines() {
        let line = line.trim_end();
        if line.trim_start().starts_with('#') || (line.trim().is_empty() && !whole.is_empty()) {
            continue;
        }
        match line.strip_suffix(escape) {
            Some(begun) => whole.push_str(begun),
            None => {
                whole.push_str(line);
                all.push(std::mem::take(&mut whole));
            }
        }
    }
    all.push(whole);
    all
}

fn unquoted_start(text: &str) -> &str {
    text.trim_start_matches(['"', '\''])
}

fn unquoted(text: &str) -> String {
    text.chars().filter(|c| !matches!(c, '"' | '\'')).collect()
}

/// Resolves `$NAME`, `${NAME}`, `${NAME:-word}` and `${NAME:+word}`. An unknown variable is empty, as in a builder;
/// other forms stay unchanged.
fn filled(text: &str, known: &BTreeMap<String, String>) -> String {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let (mut out, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some((inner, behind)) = after.strip_prefix('{').and_then(|after| after.split_once('}')) {
            let end = inner.find(|c| !is_name(c)).unwrap_or(inner.len());
            let (name, form) = inner.split_at(end);
            let value = known.get(name).filter(|value| !value.is_empty()).cloned();
            match (form.get(..2).unwrap_or(form), form.get(2..).unwrap_or_default()) {
                ("", _) => out.push_str(&value.unwrap_or_default()),
                (":-", word) => out.push_str(&value.unwrap_or_else(|| filled(word, known))),
                (":+", word) => out.push_str(&value.map(|_| filled(word, known)).unwrap_or_default()),
                _ => out.push_str(&format!("${{{inner}}}")),
            }
            rest = behind;
        } else {
            let end = after.find(|c| !is_name(c)).unwrap_or(after.len());
            let (name, behind) = after.split_at(end);
            if name.is_empty() {
                out.push('$');
            }
            out.push_str(known.get(name).map_or("", String::as_str));
            rest = behind;
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        images(text, &BTreeMap::from([("GIVEN".to_owned(), "given:1".to_owned())])).unwrap()
    }

    #[test]
    fn every_way_to_name_an_image_is_found() {
        for text in [
            "FROM a/b:c",
            "from --platform=linux/amd64 a/b:c as x",
            "\u{feff}FROM a/b:c",
            "# comment\n\n  FROM \\\n  a/b:c",
            "# escape=`\nFROM `\na/b:c",
            "ARG IMAGE=a/b:c\nFROM $IMAGE",
            "ARG A=a/b\nARG IMAGE=${A}:c\nFROM \"${IMAGE}\"",
            "ARG X\nFROM ${X:-a/b:c}",
            "FROM a/\\\nb:c",
            "FROM a/b:c\nFROM scratch\nCOPY --from=0 / /",
            "FROM scratch\nCOPY --from=a/b:c --chown=1:1 / /",
            "FROM scratch\nADD --chmod=1 --from=a/b:c / /",
            "FROM scratch\nRUN --mount=type=bind,from=a/b:c,target=/x true",
            "FROM scratch\nRUN \"--mount=from=a/b:c\" --mount=type=bind,\"from=a/b:c\" true",
            "FROM scratch\nONBUILD COPY --from=a/b:c / /",
            "FROM scratch\nENV I=a/b:c\nCOPY --from=$I / /",
        ] {
            assert_eq!(found(text), ["a/b:c"], "{text}");
        }
        assert_eq!(found("ARG GIVEN=other\nFROM ${GIVEN}"), ["given:1"]);
    }

    #[test]
    fn stages_and_nothing_are_no_images_and_a_variable_that_stays_is_an_error() {
        assert_eq!(found("FROM a AS Base\nFROM base\nCOPY --from=BASE / /\nCOPY --from=1 / /"), ["a"]);
        assert_eq!(found("FROM a AS a\nFROM a"), ["a"], "the first is the image, the second the stage");
        assert_eq!(found("FROM scratch\nRUN echo from=x FROM y"), Vec::<String>::new());
        let error = images("ARG A=x\nFROM ${A#x}", &BTreeMap::new()).unwrap_err();
        assert!(error.contains("FROM ${A#x}"), "{error}");
    }
}
