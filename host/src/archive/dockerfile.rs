//! Finds the images that a Dockerfile reads from, its frontend, and the builder features that it needs.
//!
//! Reference: <https://docs.docker.com/reference/dockerfile/>. It is not a builder, it only finds names. It may
//! recognize more instructions than a builder would, but never fewer: a Dockerfile with here-documents is therefore
//! read in three ways, and every image of each counts.

use std::collections::BTreeMap;

/// The build argument that names a frontend, with precedence over the Dockerfile's own line.
pub const SYNTAX_ARG: &str = "BUILDKIT_SYNTAX";

/// Finds the images that a Dockerfile names in `FROM`, `COPY --from`, `ADD --from` and `RUN --mount=from=`, except
/// its own stages. `args` are the build arguments; others have their defaults. `architecture` is the engine's, as
/// `uname -m` prints it.
///
/// # Errors
/// A name with a variable that cannot be resolved.
pub fn images(text: &str, args: &BTreeMap<String, String>, architecture: &str) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    let mut readings = vec![instructions(text, Reading::Joined)];
    if readings.iter().flatten().any(|instruction| !heredocs(&instruction.text).is_empty()) {
        readings.push(instructions(text, Reading::HereDocuments));
        readings.push(instructions(text, Reading::Lines));
    }
    for reading in readings {
        images_of(&reading, args, platform(architecture), &mut found)?;
    }
    Ok(found)
}

fn images_of(
    instructions: &[Instruction],
    args: &BTreeMap<String, String>,
    mut known: BTreeMap<String, String>,
    found: &mut Vec<String>,
) -> Result<(), String> {
    let mut stages = Vec::<String>::new();
    for Instruction { text: line, .. } in instructions {
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
            // A lone backslash or backtick continues the line.
            if !matches!(name.as_str(), "" | "\\" | "`") && !own && !found.contains(&name) {
                found.push(name);
            }
        }
    }
    Ok(())
}

/// Returns the variables that a builder sets by itself.
fn platform(architecture: &str) -> BTreeMap<String, String> {
    let (arch, variant) = match architecture {
        "x86_64" => ("amd64", ""),
        "aarch64" => ("arm64", ""),
        "armv7l" => ("arm", "v7"),
        other => (other, ""),
    };
    let whole = if variant.is_empty() { format!("linux/{arch}") } else { format!("linux/{arch}/{variant}") };
    let parts = [("PLATFORM", whole.as_str()), ("OS", "linux"), ("ARCH", arch), ("VARIANT", variant)];
    let of = |prefix: &'static str| parts.map(|(name, value)| (format!("{prefix}{name}"), value.to_owned()));
    of("TARGET").into_iter().chain(of("BUILD")).collect()
}

/// Returns the frontends that a Dockerfile or its build arguments name: images whose programs read the Dockerfile.
///
/// `# syntax=IMAGE`, `// syntax=IMAGE` and `{"syntax": "IMAGE"}` name one (BuildKit, `DetectSyntax`). BuildKit uses one
/// of them, and an old one ignores the build argument, so every one counts: each comment before the first instruction,
/// and the argument.
pub fn frontends(text: &str, args: &BTreeMap<String, String>) -> Vec<String> {
    let text = text.trim_start_matches('\u{feff}');
    let mut named: Vec<String> = args.get(SYNTAX_ARG).cloned().into_iter().collect();
    if text.trim_start().starts_with('{') {
        // BuildKit's decoder reads the first value and ignores the rest.
        let first = serde_json::Deserializer::from_str(text).into_iter::<serde_json::Value>().next();
        if let Some(Ok(serde_json::Value::Object(object))) = first {
            let syntax = object.iter().filter(|(key, _)| key.eq_ignore_ascii_case("syntax"));
            named.extend(syntax.filter_map(|(_, value)| value.as_str().map(str::to_owned)));
        }
    }
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let Some(comment) = line.strip_prefix('#').or_else(|| line.strip_prefix("//")) else { break };
        if let Some((name, value)) = comment.split_once('=')
            && name.trim().eq_ignore_ascii_case("syntax")
        {
            named.push(value.to_owned());
        }
    }
    // Options may follow the image.
    named.iter().filter_map(|named| named.split_whitespace().next().map(str::to_owned)).collect()
}

/// A feature of a Dockerfile that not every builder has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feature {
    /// Line number in the Dockerfile, from 1.
    pub line: usize,
    /// The feature as it is written, e.g. `RUN --mount`, `COPY <<EOF`.
    pub text: String,
    /// Whether it is a here-document. A builder without them reads its lines as instructions.
    pub here_document: bool,
}

/// Returns the features that the engine's legacy builder does not have. It ignores some of them and builds another
/// image without an error (tried on Docker 28.5).
pub fn features(text: &str) -> Vec<Feature> {
    let mut found = Vec::new();
    for Instruction { line, text } in instructions(text, Reading::HereDocuments) {
        let mut words = text.split_whitespace();
        let mut instruction = words.next().unwrap_or_default().to_ascii_uppercase();
        if instruction == "ONBUILD" {
            instruction = words.next().unwrap_or_default().to_ascii_uppercase();
        }
        let new: &[&str] = match instruction.as_str() {
            "RUN" => &["--mount", "--network", "--security", "--device"],
            "COPY" => &["--chmod", "--link", "--parents", "--exclude"],
            "ADD" => &["--chmod", "--link", "--checksum", "--keep-git-dir", "--exclude", "--unpack"],
            _ => &[],
        };
        for word in words.take_while(|word| word.starts_with("--")) {
            let flag = word.split('=').next().unwrap_or_default();
            if new.contains(&flag) {
                found.push(Feature { line, text: format!("{instruction} {flag}"), here_document: false });
            }
        }
        found.extend(heredocs(&text).first().map(|document| {
            let text = format!("{instruction} <<{}", document.name);
            Feature { line, text, here_document: true }
        }));
    }
    found
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

/// A whole instruction.
struct Instruction {
    /// Number of its first line, from 1.
    line: usize,
    text: String,
}

/// A way to split a Dockerfile into instructions.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// Continued lines are joined; lines of a here-document are instructions.
    Joined,
    /// Continued lines are joined; here-documents are left out.
    HereDocuments,
    /// Each line is an instruction.
    Lines,
}

/// Returns the instructions, without comments, each on one line.
fn instructions(text: &str, reading: Reading) -> Vec<Instruction> {
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
    let (mut whole, mut begun, mut all) = (String::new(), 1, Vec::new());
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let line = line.trim_end();
        if line.trim_start().starts_with('#') || (line.trim().is_empty() && !whole.is_empty()) {
            continue;
        }
        if whole.is_empty() {
            begun = number + 1;
        }
        match line.strip_suffix(escape).filter(|_| reading != Reading::Lines) {
            Some(begin) => whole.push_str(begin),
            None => {
                whole.push_str(line);
                let documents = heredocs(&whole);
                all.push(Instruction { line: begun, text: std::mem::take(&mut whole) });
                if reading == Reading::HereDocuments {
                    for document in documents {
                        // Without its end, the document is the rest of the file.
                        let _ = lines.by_ref().find(|(_, line)| document.ends_at(line));
                    }
                }
            }
        }
    }
    all.push(Instruction { line: begun, text: whole });
    all
}

/// The beginning of a here-document: `<<NAME`, `<<-NAME`, with a quoted name too.
struct HereDocument {
    name: String,
    /// Whether tabs before the end are left out (`<<-`).
    tabs: bool,
}

impl HereDocument {
    fn ends_at(&self, line: &str) -> bool {
        let line = line.strip_suffix('\r').unwrap_or(line);
        let line = if self.tabs { line.trim_start_matches('\t') } else { line };
        line == self.name
    }
}

/// Returns the here-documents that an instruction begins: only `RUN`, `COPY` and `ADD` have them (BuildKit,
/// `parseInstruction`).
fn heredocs(instruction: &str) -> Vec<HereDocument> {
    let mut words = instruction.split_whitespace().peekable();
    words.next_if(|word| word.eq_ignore_ascii_case("onbuild"));
    if !words.next().is_some_and(|word| ["run", "copy", "add"].iter().any(|name| word.eq_ignore_ascii_case(name))) {
        return Vec::new();
    }
    let document = |word: &str| {
        let rest = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
        let (tabs, name) = rest.strip_prefix('-').map_or((false, rest), |name| (true, name));
        let name = unquoted(name);
        (!name.is_empty() && !name.contains('<')).then_some(HereDocument { name, tabs })
    };
    words.filter_map(document).collect()
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
        images(text, &BTreeMap::from([("GIVEN".to_owned(), "given:1".to_owned())]), "aarch64").unwrap()
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
    fn images_around_and_behind_here_documents_are_found() {
        for text in [
            "FROM scratch AS x\nRUN <<EOF\necho \\\nEOF\nFROM a/b:c",
            "FROM scratch AS x\nRUN <<'EOF\\'\necho\nEOF\\\nFROM a/b:c",
            "FROM scratch AS x\nRUN <<-EOF cat\n\techo\n\tEOF\nCOPY --from=a/b:c / /",
            "FROM scratch AS x\nCOPY <<A <<\"B\" /\n1\nA\nFROM\nB\nFROM \\\na/b:c",
            // It has no end; a builder refuses it.
            "FROM scratch AS x\nRUN <<EOF\necho\nFROM a/b:c",
            "FROM scratch AS x\nRUN --mount=from=a/b:c,target=/x <<EOF\necho\nEOF",
        ] {
            assert_eq!(found(text), ["a/b:c"], "{text}");
        }
        assert_eq!(found("FROM scratch\nCMD echo <<EOF\nRUN echo 1<<2"), Vec::<String>::new());
    }

    #[test]
    fn variables_of_the_platform_are_known() {
        assert_eq!(found("FROM a AS base-arm64\nARG TARGETARCH\nFROM base-${TARGETARCH}"), ["a"]);
    }

    #[test]
    fn every_frontend_is_found_in_every_notation() {
        let none = BTreeMap::new();
        for text in [
            "# syntax=a/b:c\nFROM x",
            "#syntax = a/b:c\n",
            "\u{feff}# SYNTAX=a/b:c",
            "#!/usr/bin/env x\n# syntax=a/b:c",
            "# escape=`\n# syntax=a/b:c",
            "// syntax=a/b:c\nanything",
            "{\"syntax\": \"a/b:c\"}",
            "# note\n\n# syntax=a/b:c",
        ] {
            assert_eq!(frontends(text, &none), ["a/b:c"], "{text}");
        }
        assert!(frontends("FROM x\n# syntax=a/b:c", &none).is_empty());
        let given = BTreeMap::from([(SYNTAX_ARG.to_owned(), "d".to_owned())]);
        // An old BuildKit ignores the argument.
        assert_eq!(frontends("# syntax=a/b:c\n// syntax=e x=y", &given), ["d", "a/b:c", "e"]);
    }

    #[test]
    fn features_of_newer_builders_are_found_with_their_lines() {
        let text = "# syntax=x\nFROM scratch\nRUN --mount=type=cache,target=/c \\\n  true\n\nCOPY --chmod=1 --from=x a b\n\
                    RUN <<EOF\nRUN --network=none\nEOF\nADD --unpack=true a /\nCOPY --from=x --chown=1 a b\nRUN echo --mount";
        let found = features(text).into_iter().map(|feature| (feature.line, feature.text));
        let found: Vec<_> = found.collect();
        let expected = [(3, "RUN --mount"), (6, "COPY --chmod"), (7, "RUN <<EOF"), (10, "ADD --unpack")];
        assert_eq!(found, expected.map(|(line, text)| (line, text.to_owned())));
    }

    #[test]
    fn stages_and_nothing_are_no_images_and_a_variable_that_stays_is_an_error() {
        assert_eq!(found("FROM a AS Base\nFROM base\nCOPY --from=BASE / /\nCOPY --from=1 / /"), ["a"]);
        assert_eq!(found("FROM a AS a\nFROM a"), ["a"], "the first is the image, the second the stage");
        assert_eq!(found("FROM scratch\nRUN echo from=x FROM y"), Vec::<String>::new());
        let error = images("ARG A=x\nFROM ${A#x}", &BTreeMap::new(), "x86_64").unwrap_err();
        assert!(error.contains("FROM ${A#x}"), "{error}");
    }
}
